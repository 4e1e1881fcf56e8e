"""A study whose host is a model of the user's own: checked before anything is written, told, stored, known again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnsearch.core.errors import UsageError
from attnsearch.core.study_attrs import ModuleInfo
from attnsearch.core.study_info import StudyInfo
from attnsearch.space import module_file
from attnsearch.space.arch import plain
from attnsearch.space.space import Space

if TYPE_CHECKING:
    from attnsearch.data import Data


def allow(path: str | None, info: StudyInfo | None = None) -> None:
    """Let the space that is read next, or the study, have this file as its host.

    Raises:
        UsageError: no such file, or a study whose host is none.
    """
    if path:
        if info is not None and not info.module.sha256:
            raise UsageError(
                f"--host-module {path}: the host is {info.space.host}, which is no model of your own"
            )
        from attnsearch.build import module_host

        module_host.allow(path)


def module_info(space: Space, data: Data) -> ModuleInfo:
    """What a study keeps of its host, empty where that is one of attnsearch's own.

    Raises:
        UsageError: the model does not run on these images, or gives something else than class scores.
    """
    host = space.host
    if not host.module:
        return ModuleInfo()
    from attnsearch.build.module_host import check_runs

    check_runs(host, data.image, len(data.classes))
    path = module_file.find(host.name, host.module, host.sha256)
    return ModuleInfo(str(path), plain(host).to_dict()["host"])


def described(space: Space, data: Data) -> list[str]:
    """Sentences on the host for the user before training."""
    host = space.host
    if not host.module:
        return []
    from attnsearch.build.module_host import notes

    stages = ", ".join(f"{n} x {width}" for n, width in zip(host.units or (), host.widths or (), strict=True))
    head = notes(host, len(data.classes))
    return [
        f"host {host.name}: {len(host.units or ())} stages of {host.unit} units x channels: {stages}",
        *head,
    ]


def check_same(name: str, before: ModuleInfo, now: ModuleInfo) -> None:
    """Refuse to go on with another file than a study began with."""
    if before.sha256 and now.sha256 and before.sha256 != now.sha256:
        raise UsageError(
            f"{now.path} has changed since study '{name}' began: SHA-256 {before.sha256[:12]}, now "
            f"{now.sha256[:12]}. Use another --study"
        )


__all__ = ["allow", "check_same", "described", "module_info"]
