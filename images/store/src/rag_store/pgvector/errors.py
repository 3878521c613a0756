"""PostgreSQL's errors as the store's."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg_pool
from psycopg import errors

from rag_common.files import SecretFileError
from rag_store.base import StoreError, StoreUnavailableError, UnknownTenantError

_DOWN = (
    psycopg.OperationalError,  # refused, lost, shut down, timed out
    psycopg_pool.PoolTimeout,
    psycopg_pool.PoolClosed,
    psycopg_pool.TooManyRequests,
    SecretFileError,
)


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


@contextmanager
def translated(tenant: str | None = None) -> Iterator[None]:
    """Raise `StoreError` or a subclass for whatever the database reports inside."""
    try:
        yield
    except _DOWN as error:
        raise StoreUnavailableError(f"PostgreSQL: {_line(error)}") from error
    except errors.InvalidParameterValue as error:
        if tenant is None or "role" not in str(error):
            raise StoreError(f"PostgreSQL: {_line(error)}") from error
        raise UnknownTenantError(f"tenant {tenant!r} has not been provisioned") from error
    except errors.InsufficientPrivilege as error:
        raise StoreError(f"the login may not do this: {_line(error)}") from error
    except errors.UndefinedTable as error:
        raise StoreError(f"tenant {tenant!r}: no such generation ({_line(error)})") from error
    except (psycopg.Error, UnicodeEncodeError) as error:
        raise StoreError(f"PostgreSQL: {_line(error)}") from error
