"""One line per setting: its flag, default, help and check, for the command line and for Python alike."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
import typer

from attnsearch.cli import app
from attnsearch.core.errors import UsageError
from attnsearch.core.settings import Settings, flags


@pytest.fixture(scope="module")
def options():
    command = typer.main.get_command(app).commands["run"]
    return {option.name: option for option in command.params}


def test_every_setting_is_an_option_of_run_with_its_help(options):
    assert {field.name for field in fields(Settings)} == set(flags())
    assert set(flags()) < set(options)  # beside them stand the question, plug-ins and the form of the output
    assert all(options[name].help for name in flags())


def test_flags_are_called_as_their_field_but_for_two(options):
    switches = {name: options[name].opts[0] for name in flags()}
    unlike = {name: switch for name, switch in switches.items() if switch != f"--{name.replace('_', '-')}"}
    assert unlike == {"costs": "--cost", "bad_images": "--on-bad-image"}


def test_a_command_without_options_asks_for_the_defaults():
    command = typer.main.get_command(app).commands["run"]
    values = command.make_context("run", ["--space", "cbam_variants"]).params
    assert Settings(**{name: values[name] for name in flags()}).check() == Settings()


def test_text_and_values_are_checked_alike():
    assert Settings(costs="macs,params", trials="7", lr="0.1").check() == Settings(  # type: ignore[arg-type]
        costs=("macs", "params"), trials=7, lr=0.1
    )
    assert Settings(out="here").out == Path("here")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "--epochs must be an integer ≥ 1, got '0'"),
        ({"retries": -1}, "--retries must be an integer ≥ 0, got '-1'"),
        ({"lr": float("inf")}, "--lr must be a positive finite number, got 'inf'"),
        ({"confirm": 1.0}, "--confirm must be at least 0 and below 1, got '1.0'"),
        ({"costs": ("macs", "macs")}, "--cost takes one cost or more, none of them twice"),
        ({"costs": ("mac",)}, "Unknown cost 'mac'. Did you mean 'macs'"),
        ({"workers": 0}, "--workers must be an integer ≥ 1 or 'gpus', got '0'"),
        ({"bad_images": "skipp"}, "Unknown answer to a bad image 'skipp'. Did you mean 'skip'"),
        ({"controls": "null,widht"}, "Unknown control 'widht'. Did you mean 'width'"),
        ({"trials": True}, "--trials must be an integer ≥ 1, got 'True'"),
        ({"design": "swap", "enqueue": ("se",)}, "--enqueue is for a search"),
    ],
)
def test_a_value_that_makes_no_sense_is_named_by_its_flag(given, message):
    with pytest.raises(UsageError) as raised:
        Settings(**given).check()
    assert message in str(raised.value)
