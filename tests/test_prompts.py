"""Templates declare what they use; a mistake in one is named."""

from pathlib import Path

import pytest

from llmrec.errors import ConfigError
from llmrec.prompts import Template, load_template, templates_folder

SHIPPED = sorted(path.stem for path in templates_folder().glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_template_loads_and_fits(name: str) -> None:
    template = load_template(name)
    assert template.name == name, "recipes call it by its file's name"
    assert template.about
    values = {variable: f"<{variable}>" for variable in template.variables}
    rendered = template.render(**values)
    assert all(value in rendered for value in values.values())
    assert "{" not in rendered


def test_history_templates_are_shipped() -> None:
    assert {"recommend", "recommend_instruct"} <= set(SHIPPED)
    assert load_template("recommend").prefix("history") == ""
    assert load_template("recommend_instruct").prefix("history").endswith(".\n")


@pytest.mark.parametrize(
    ("declared", "text"), [([], "Dear {who}"), (["who"], "Dear all"), (["a"], "{b}")]
)
def test_declared_and_used_variables_must_be_the_same(declared: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match=r"prompt 'x': declares .*, its text uses"):
        Template("x", declared, text)


@pytest.mark.parametrize("values", [{}, {"who": "Ada", "when": "now"}, {"when": "now"}])
def test_missing_and_unknown_values_are_errors(values: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"prompt 'x': needs \['who'\], got"):
        Template("x", ["who"], "Dear {who}").render(**values)


def test_values_are_put_in_as_they_are() -> None:
    template = Template("x", ["a", "b"], r"{a} and {b} {a}")
    assert template.render(a="{b}", b=r"\1 {a}") == r"{b} and \1 {a} {b}"


def test_the_prefix_is_what_stands_before_the_history() -> None:
    template = Template("x", ["history"], "Buy next:\n{history}")
    assert template.prefix("history") + "<item_1>" == template.render(history="<item_1>")


@pytest.mark.parametrize(
    ("variables", "text"),
    [(["history"], "{history}."), (["who", "history"], "{who}: {history}"), (["who"], "{who}")],
)
def test_a_history_that_could_not_be_extended_is_an_error(variables: list[str], text: str) -> None:
    with pytest.raises(ConfigError, match="must be its only variable and end its text"):
        Template("x", variables, text).prefix("history")


def test_a_template_may_be_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nvariables: [history]\ntext: 'After {history}'\n")
    assert load_template(str(path)).prefix("history") == "After "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: mine\nvariables: [a]\n", "missing key 'text'"),
        ("name: mine\nvariables: [a]\ntext: '{a}'\nwords: 3\n", "unknown key 'words'"),
        ("name: mine\nvariables: [a]\ntext: '{b}'\n", "declares"),
        ("- a\n", "expected a mapping"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_template(str(path))
    assert str(path) in str(caught.value)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'shout': no such template; known: .*recommend"):
        load_template("shout")
