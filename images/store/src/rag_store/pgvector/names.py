"""Names of a tenant's schema, roles and tables."""

from dataclasses import dataclass

from psycopg import sql

from rag_store.base import StoreError
from rag_store.checks import known_tenant

READER, WRITER, ADMIN = "rag_reader", "rag_writer", "rag_admin"
PREFIX = "tenant_"


@dataclass(frozen=True, slots=True)
class TenantNames:
    """Schema `tenant_a_b` and the roles that may enter it, for tenant `a-b`."""

    tenant: str

    @property
    def schema(self) -> str:
        """The schema that holds everything of the tenant."""
        return PREFIX + known_tenant(self.tenant).replace("-", "_")

    @property
    def reader(self) -> str:
        """The role that may read it."""
        return f"{self.schema}_reader"

    @property
    def writer(self) -> str:
        """The role that owns it."""
        return f"{self.schema}_writer"

    def table(self, name: str) -> sql.Identifier:
        """A table of the schema, quoted."""
        return sql.Identifier(self.schema, name)

    def tables(self, generation_id: str) -> dict[str, sql.Identifier]:
        """The generation's tables, quoted, by the placeholder that stands for each."""
        if not generation_id.isalnum() or not generation_id.isascii():
            raise StoreError(f"generation {generation_id!r}: no such id")
        return {
            kind: self.table(f"{kind}_{generation_id}") for kind in ("document", "chunk", "term")
        }


def tenant_of(schema: str) -> str:
    """The tenant whose schema it is."""
    return schema.removeprefix(PREFIX).replace("_", "-")
