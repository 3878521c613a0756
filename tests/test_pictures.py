"""The pictures are those of the manifests."""

from conformance import pictures
from conformance.static.matrix import read


def test_the_page_is_drawn_from_the_manifests():
    assert pictures.main(["--check"]) == 0, "run `make pictures`"


def test_a_page_that_is_another_is_outdated(tmp_path, capsys):
    file = tmp_path / "pictures.md"
    assert pictures.main(["--check", "--page", str(file)]) == 1
    assert pictures.main(["--page", str(file)]) == 0
    assert pictures.main(["--check", "--page", str(file)]) == 0
    file.write_text(file.read_text() + "by hand\n")
    assert pictures.main(["--check", "--page", str(file)]) == 1
    assert "make pictures" in capsys.readouterr().out


def test_every_flow_is_an_arrow():
    text = pictures.page()
    for edge in read().flows:
        ends = (edge.from_namespace, edge.from_account), (edge.to_namespace, edge.to_account)
        source, target = ("_".join(end).replace("-", "_") for end in ends)
        assert any(
            line.strip().startswith((f"{source} --", f"{source} -."))
            and line.endswith(f"-> {target}")
            for line in text.splitlines()
        ), edge


def test_what_is_waited_for_anyway_is_left_out():
    waits = {"a": frozenset(), "b": frozenset("a"), "c": frozenset("ab"), "d": frozenset("abc")}
    assert pictures.needed(waits, "d") == {"c"}
    assert pictures.needed(waits, "c") == {"b"}
