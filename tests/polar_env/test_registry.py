from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from polar_env.errors import ConfigError, UnknownNameError
from polar_env.registry import Registry

GROUP = "polar_env.test_parts"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for package in tmp_path.glob("*.py"):
        sys.modules.pop(package.stem, None)


def install(site: Path, package: str, points: str, code: str = "") -> None:
    """Put a package with entry points where Python finds it."""
    module = package.replace("-", "_")
    (site / f"{module}.py").write_text(code)
    metadata = site / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{points}\n")


def test_a_decorated_part_is_found_and_stays_what_it_is() -> None:
    parts = Registry[type]("part", GROUP)

    @parts.register("int")
    class Whole(int):
        pass

    assert parts.get("int") is Whole
    assert list(parts) == ["int"]
    assert "int" in parts
    assert "float" not in parts
    assert parts.register("int")(Whole) is Whole  # a cell of a notebook, run again


def test_a_misspelt_name_is_told_the_closest_and_how_to_add_one() -> None:
    parts = Registry[type]("part", GROUP)
    parts.register("integer")(int)
    with pytest.raises(UnknownNameError, match=rf"unknown part 'intger'. Did you mean 'integer'\?.*'{GROUP}'"):
        parts.get("intger")


def test_two_modules_cannot_register_one_name() -> None:
    parts = Registry[type]("part", GROUP)
    parts.register("number")(int)
    with pytest.raises(ConfigError, match="part 'number' is offered by builtins:int and by builtins:float; rename"):
        parts.register("number")(float)
    assert parts.get("number") is int


def test_a_package_is_imported_when_its_part_is_asked_for(site: Path) -> None:
    install(site, "late-parts", "late = late_parts:Late", "raise SystemError('imported')")
    install(site, "good-parts", "good = good_parts:Good", "class Good: pass")
    parts = Registry[type]("part", GROUP)
    assert list(parts) == ["good", "late"]
    assert parts.get("good").__name__ == "Good"
    with pytest.raises(ConfigError, match=r"'late' of late-parts \(late_parts:Late\).*SystemError: imported.*Mend"):
        parts.get("late")


@pytest.mark.parametrize(
    ("points", "code", "message"),
    [
        ("bad = bad_parts:Missing", "", "AttributeError: module 'bad_parts' has no attribute 'Missing'"),
        ("bad = no_such_module:Part", "", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("bad = bad_parts:Part", "import missing_library", "ModuleNotFoundError: No module named 'missing_library'"),
        ("bad = bad_parts:Part", "def oops(:", "SyntaxError"),
        ("bad = bad_parts", "", "which cannot be called; its entry point names a function or a class"),
        ("bad = bad_parts:Part", "Part = 3", "is 3, which cannot be called"),
    ],
)
def test_a_part_that_cannot_be_used_names_its_package(site: Path, points: str, code: str, message: str) -> None:
    install(site, "bad-parts", points, code)
    with pytest.raises(ConfigError, match=r"part 'bad' of bad-parts \(") as refused:
        Registry[type]("part", GROUP).get("bad")
    assert message in str(refused.value)


def test_two_packages_with_one_name_are_both_named(site: Path) -> None:
    install(site, "first-parts", "same = first_parts:Part", "class Part: pass")
    install(site, "second-parts", "same = second_parts:Part\nother = second_parts:Part", "class Part: pass")
    parts = Registry[type]("part", GROUP)
    with pytest.raises(ConfigError, match=r"first-parts \(first_parts:Part\) and by second-parts|second-.* by first-"):
        parts.get("same")
    assert parts.get("other").__module__ == "second_parts"  # only the name that is taken twice is refused


def test_a_package_cannot_take_a_name_of_ours(site: Path) -> None:
    install(site, "their-parts", "number = their_parts:Part", "class Part: pass")
    parts = Registry[type]("part", GROUP)
    parts.register("number")(int)
    with pytest.raises(ConfigError, match=r"offered by builtins:int and by their-parts \(their_parts:Part\)"):
        parts.get("number")


def test_a_package_may_decorate_what_it_also_offers(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = Registry[type]("part", GROUP)
    monkeypatch.setattr("polar_env.registry.TEST_PARTS", parts, raising=False)
    code = "from polar_env.registry import TEST_PARTS\n@TEST_PARTS.register('twice')\nclass Part: pass"
    install(site, "both-parts", "twice = both_parts:Part", code)
    assert parts.get("twice") is parts.get("twice")
