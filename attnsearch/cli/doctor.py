"""`attnsearch doctor`: is this machine ready for a run?"""

from __future__ import annotations

from pathlib import Path

import typer

from attnsearch.cli.common import Json, Out, Storage, show_json, show_text


def doctor(out: Out = Path("results"), storage: Storage = None, json: Json = False) -> None:
    """Tell whether this machine is ready for a run.

    Versions, devices, folders, extras and studies; exit code 4 if a run would fail here.
    """
    from dataclasses import asdict

    from attnsearch.tools.doctor import examine

    signs = examine(out, storage)
    if json:
        show_json([asdict(sign) for sign in signs])
    else:
        for sign in signs:
            badge = f"{'' if sign.state == 'ok' else sign.state.upper():<5}"
            advice = f" ({sign.advice})" if sign.advice else ""
            style = "bold" if sign.state == "bad" else ""
            show_text(f"{badge}{sign.name}: {sign.found}{advice}", style, hanging=5)
        bad = sum(sign.state == "bad" for sign in signs)
        show_text()
        show_text(
            f"{bad} of these would stop a run." if bad else "Ready: attnsearch run --space cbam_variants"
        )
    if any(sign.state == "bad" for sign in signs):
        raise typer.Exit(4)
