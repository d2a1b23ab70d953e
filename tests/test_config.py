"""Recipes: every mistake is one line that names the file and the key."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from llmrec.config import as_dict, build, check_ranges, load_recipe, load_yaml
from llmrec.errors import ConfigError


@dataclass(frozen=True)
class Loop:
    steps: int = 10
    rate: float = 1e-3


@dataclass(frozen=True)
class Settings:
    data: Path
    kind: Literal["atomic", "semantic"] = "atomic"
    shuffle: bool = True
    limit: int | None = None
    names: list[str] = field(default_factory=list)
    sizes: tuple[int, ...] = ()
    file: tuple[int, str] = (0, "")
    loop: Loop = field(default_factory=Loop)
    loops: dict[str, Loop] = field(default_factory=dict)
    extra: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ConfigError("limit must be at least 1")
        if len(self.names) > 3:
            raise ValueError("at most 3 names")


def test_values_become_the_annotated_types() -> None:
    values = {
        "data": "somewhere",
        "kind": "semantic",
        "limit": 5,
        "names": ["a"],
        "sizes": [1, 2],
        "file": [3, "c"],
        "loop": {"rate": "1e-4"},  # YAML 1.1 reads 1e-4 as a string
        "loops": {"first": {"steps": 2}},
        "extra": {"anything": [1]},
    }
    settings = build(Settings, values, "r.yaml")
    assert settings == Settings(
        data=Path("somewhere"),
        kind="semantic",
        limit=5,
        names=["a"],
        sizes=(1, 2),
        file=(3, "c"),
        loop=Loop(rate=1e-4),
        loops={"first": Loop(steps=2)},
        extra={"anything": [1]},
    )


def test_an_integer_is_a_fine_float_and_a_null_a_fine_optional() -> None:
    settings = build(Settings, {"data": "d", "loop": {"rate": 1}, "limit": None}, "r.yaml")
    assert isinstance(settings.loop.rate, float)
    assert settings.limit is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, r"r\.yaml: missing key 'data'"),
        ({"data": "d", "kinds": "atomic"}, r"r\.yaml: unknown key 'kinds'; did you mean 'kind'\?"),
        ({"data": "d", "zzz": 1}, r"r\.yaml: unknown key 'zzz'; known keys: data, kind"),
        ({"data": "d", "kind": "x"}, r"r\.yaml\.kind: 'x' is not one of atomic, semantic"),
        ({"data": "d", "shuffle": "no"}, r"r\.yaml\.shuffle: expected bool, got 'no'"),
        ({"data": "d", "limit": True}, r"r\.yaml\.limit: expected int, got True"),
        ({"data": "d", "limit": 1.5}, r"r\.yaml\.limit: expected int, got 1\.5"),
        ({"data": "d", "names": "a"}, r"r\.yaml\.names: expected a list, got 'a'"),
        ({"data": "d", "sizes": [1, "b"]}, r"r\.yaml\.sizes\[1\]: expected int, got 'b'"),
        ({"data": "d", "sizes": [2, -1]}, r"r\.yaml\.sizes\[1\]: must not be negative, got -1"),
        ({"data": "d", "file": [3]}, r"r\.yaml\.file: expected 2 values, got \[3\]"),
        ({"data": "d", "file": ["3", "c"]}, r"r\.yaml\.file\[0\]: expected int, got '3'"),
        (
            {"data": "d", "limit": 1 << 54},
            r"r\.yaml\.limit: must be a number up to 9007199254740992",
        ),
        ({"data": "d", "limit": -1}, r"r\.yaml: limit must be at least 1"),
        ({"data": "d", "loop": {"rate": math.nan}}, r"r\.yaml\.loop\.rate: must be a number up to"),
        ({"data": "d", "kind": "x" * 999}, r"r\.yaml\.kind: 'x{99}\.\.\. is not one of atomic"),
        ({"data": "d", "loop": 3}, r"r\.yaml\.loop: expected settings \(steps, rate\), got 3"),
        ({"data": "d", "loop": {"step": 3}}, r"r\.yaml\.loop: unknown key 'step'; did you mean"),
        ({"data": "d", "loops": {"a": {"rate": "x"}}}, r"r\.yaml\.loops\.a\.rate: expected float"),
        ({"data": 3}, r"r\.yaml\.data: expected Path, got 3"),
        ({"data": None}, r"r\.yaml\.data: expected Path, got None"),
        ({"data": "d", "limit": 0}, r"r\.yaml: limit must be at least 1"),
        ({"data": "d", "names": list("abcd")}, r"r\.yaml: at most 3 names"),
    ],
)
def test_a_mistake_names_the_place(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        build(Settings, values, "r.yaml")
    assert "\n" not in str(caught.value)


def test_load_yaml_reads_a_mapping(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("name: ä\nmodels: {a: {x: 1}}\n", encoding="utf-8")
    assert load_yaml(recipe) == {"name": "ä", "models": {"a": {"x": 1}}}


def test_a_recipe_says_what_differs_from_the_one_it_extends(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.yaml").write_text("name: a\nseed: 1\ningest: {k: [1, 2], s: '${out}'}\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\nname: b\ningest: {k: [3]}\n")
    (tmp_path / "sub" / "c.yaml").write_text("extends: ../b.yaml\nname: c\nembed: {}\n")
    raw, out = load_recipe(tmp_path / "sub" / "c.yaml")
    assert out == Path("runs/c")
    ingest = {"k": [3], "s": "runs/c"}
    assert raw == {"name": "c", "seed": 1, "ingest": ingest, "embed": {}}


def test_a_recipe_that_cannot_be_extended_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match=r"b\.yaml: extends: a\.yaml extends this recipe in turn"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text("extends: [a.yaml]\n")
    with pytest.raises(ConfigError, match=r"b\.yaml: extends: expected the path of a recipe"):
        load_recipe(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").unlink()
    with pytest.raises(ConfigError, match=r"b\.yaml: no such recipe"):
        load_recipe(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1,\n b: 2", "not valid YAML"),
        (b"- a\n- b\n", "expected a mapping"),
        (b"", "expected a mapping"),
        (b"a: \xff\xfe", "cannot be read as UTF-8"),
        (b"a: !!python/object/apply:os.system [true]", "not valid YAML"),
        (b"a: 1\na: 2\n", "not valid YAML: line 2, column 1: the key 'a' stands twice"),
        (b"[" * 10_000, "not valid YAML: .*nested deeper than 64 levels"),
        (b"#" * (1 << 21), "not valid YAML: more than 1,048,576 characters"),
    ],
)
def test_load_yaml_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_yaml(recipe)
    assert str(caught.value).startswith(f"{recipe}: ")
    assert "\n" not in str(caught.value)


def test_load_yaml_of_a_missing_file_or_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such recipe"):
        load_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_yaml(tmp_path)


def test_as_dict_builds_the_same_settings_again() -> None:
    settings = Settings(data=Path("d"), names=["a"], loop=Loop(steps=3))
    assert build(Settings, as_dict(settings), "again") == settings


@dataclass(frozen=True)
class Ranges:
    epochs: int = 1
    dropout: float = 0.0
    rate: float = 1e-3
    share: float | None = 1.0

    def __post_init__(self) -> None:
        check_ranges(self, "[1, inf)", "epochs", prefix="loop.")
        check_ranges(self, "[0, 1)", "dropout", prefix="loop.")
        check_ranges(self, "(0, inf)", "rate")
        check_ranges(self, "(0, 1]", "share")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "loop.epochs: must be 1 or more, got 0"),
        ({"dropout": 1.0}, "loop.dropout: must be in [0, 1), got 1.0"),
        ({"dropout": -0.1}, "loop.dropout: must be in [0, 1), got -0.1"),
        ({"dropout": math.nan}, "loop.dropout: must be in [0, 1), got nan"),
        ({"rate": 0.0}, "rate: must be above 0, got 0.0"),
        ({"rate": math.inf}, "rate: must be above 0, got inf"),
        ({"share": 0.0}, "share: must be in (0, 1], got 0.0"),
        ({"share": 1.5}, "share: must be in (0, 1], got 1.5"),
    ],
)
def test_a_number_outside_its_range_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Ranges(**given)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_numbers_at_the_ends_that_belong_to_their_range_are_taken() -> None:
    Ranges(epochs=1, dropout=0.0, rate=1e-9, share=1.0)
    Ranges(share=None)
