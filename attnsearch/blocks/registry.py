"""Blocks, found by being there: every file in `blocks/` is read for what it registers.

Reading is done on the syntax tree, so names, options and defaults are known without importing torch: a typing
mistake in a space file is answered in milliseconds. The classes themselves are imported when they are built.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from attnsearch.blocks.plugin import import_plugin
from attnsearch.core.errors import BlockError, UsageError, did_you_mean, unknown

if TYPE_CHECKING:
    from torch import nn

Slot = Literal["attention", "conv", "neck"]
SLOTS: tuple[Slot, ...] = ("attention", "conv", "neck")
Value = int | float | bool | str | tuple[int, ...] | None
T = TypeVar("T", bound=type)
# Beyond them a number is a slip, and building the block would take all memory before anybody sees why.
LARGEST, LARGEST_KERNEL = 65_536, 255

_PLUGINS: dict[str, Path] = {}  # module name -> file, in the order given


@dataclass(frozen=True)
class Option:
    """One keyword-only argument of a block's constructor.

    `type` is its annotation as written; `choices` are the values of a `Literal`, empty for any other type.
    """

    name: str
    type: str
    default: Value
    choices: tuple[Value, ...] = ()

    def refuses(self, value: Any) -> str:
        """Why `value` is not one of this option, or an empty string; a list counts as a tuple."""
        if self.choices:
            near = did_you_mean(str(value), map(str, self.choices))
            known = ", ".join(map(str, self.choices))
            return "" if value in self.choices else f"{value!r} is not one of {known}.{near}"
        allowed = [part.strip() for part in self.type.split("|")]
        if not any(_is_a(value, kind) for kind in allowed):
            return f"expected {self.type}, got {value!r}"
        most = LARGEST_KERNEL if "kernel" in self.name else LARGEST
        numbers = value if isinstance(value, tuple | list) else (value,)
        large = [n for n in numbers if isinstance(n, int | float) and abs(n) > most]
        return f"at most {most:,}, got {large[0]:,}" if large else ""


@dataclass(frozen=True)
class BlockInfo:
    """What is known of a block before its file is imported."""

    name: str
    slot: Slot
    module: str
    class_name: str
    doc: str  # of the file: formula, paper, "Differs from the paper: ..."
    class_doc: str
    options: tuple[Option, ...]
    path: Path
    presets: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """First line of the file's docstring."""
        return self.doc.strip().splitlines()[0] if self.doc.strip() else ""

    def option(self, name: str) -> Option:
        return next(option for option in self.options if option.name == name)


def block(name: str, *, slot: Slot = "attention") -> Callable[[T], T]:
    """Register a class as the block `name` of a slot; the arguments must be literals, read unexecuted.

    attention: `cls(channels, *, options)`, (B, C, H, W) -> the same shape.
    conv: `cls(channels, out_channels=None, stride=1, *, options)`, -> (B, out, H/stride, W/stride).
    neck: `cls(in_channels, *, options)`, a list of maps, shallow to deep -> one map shaped like the deepest.

    A file may say `PRESETS = {"article": {"ratio": 8}}`, the options of named variants, a literal too:
    `se.article` builds it where a block's name is asked.

    A gate whose class or instance says `starts_as_identity = True` gives back its input until it is trained.

    A class may define `resolve(channels, options) -> options` (static), which returns constructor options
    that build the very same block, with inert options at their defaults and derived sizes in one spelling.
    """

    def mark(cls: T) -> T:
        cls.block_name = name  # type: ignore[attr-defined]
        cls.block_slot = slot  # type: ignore[attr-defined]
        return cls

    return mark


def blocks() -> Mapping[str, BlockInfo]:
    """Every known block by name, plug-ins included."""
    known = dict(_shipped())
    for module, path in _PLUGINS.items():
        known.update((info.name, info) for info in _read(path, module))
    return dict(sorted(known.items()))


def info(name: str, slot: Slot | None = None) -> BlockInfo:
    """The facts of one block; an unknown name is a `UsageError` with the nearest right word."""
    known = {key: value for key, value in blocks().items() if slot is None or value.slot == slot}
    if name not in known:
        raise UsageError(unknown("block", name, known))
    return known[name]


def expand(name: str) -> tuple[str, dict[str, Value]]:
    """`"se.article"` -> `("se", {"ratio": 8})`; a plain name has none. Unknown words: `UsageError`."""
    base, _, preset = name.partition(".")
    facts = info(base)
    if not preset:
        return base, {}
    if preset not in facts.presets:
        near, has = did_you_mean(preset, facts.presets), ", ".join(facts.presets) or "none"
        raise UsageError(f"Block '{base}' has no preset '{preset}'.{near} It has: {has}")
    return base, dict(facts.presets[preset])


def load(name: str) -> type[nn.Module]:
    """The block's class; its file is imported now."""
    facts = info(name)
    cls = getattr(_import(facts), facts.class_name, None)
    if not isinstance(cls, type):
        raise UsageError(f"{facts.path}: {facts.class_name} is no class once the file has run")
    return cls


def complete(name: str, channels: int, options: Mapping[str, Value]) -> dict[str, Value]:
    """Options filled up with defaults and brought to the block's one spelling at `channels`."""
    facts = info(name)
    check_options(facts, options)
    full: dict[str, Value] = {option.name: option.default for option in facts.options}
    full.update({key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})
    resolve = getattr(load(name), "resolve", None)
    return full if resolve is None else dict(resolve(channels, full))


def starts_as_identity(name: str, channels: int, options: Mapping[str, Value]) -> bool:
    """Whether a gate gives back its input until it is trained, so that `init: identity` would change nothing."""
    cls = load(name)
    if not hasattr(cls, "starts_as_identity"):
        return False
    import torch

    with torch.device("meta"):
        return bool(cls(channels, **options).starts_as_identity)


def check_options(facts: BlockInfo, options: Mapping[str, Any]) -> None:
    """Raise `BlockError` for an option that the constructor does not take, or a value of the wrong kind."""
    known = {option.name: option for option in facts.options}
    for name, value in options.items():
        if name not in known:
            near, has = did_you_mean(name, known), ", ".join(known) or "none"
            raise BlockError(f"Block '{facts.name}' has no option '{name}'.{near} It has: {has}")
        if wrong := known[name].refuses(value):
            raise BlockError(f"Block '{facts.name}', option '{name}': {wrong}")


def add_plugin(path: Path) -> list[BlockInfo]:
    """Make the blocks of a user's file known. It is trusted code: only ever named on the command line."""
    if not path.is_file():
        raise UsageError(f"Plug-in file not found: {path}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Plug-in file {path} cannot be read: {error.strerror}") from None
    # Named by what it says: files of one name in two folders, or one edited within a session, are not confused.
    module = f"attnsearch_plugin_{path.stem}_{hashlib.sha256(content).hexdigest()[:8]}"
    found = _read(path, module)
    if not found:
        raise UsageError(f"{path}: no class here is decorated with @block('name')")
    taken = [entry.name for entry in found if entry.name in _shipped()]
    if taken:
        raise UsageError(f"{path}: block '{taken[0]}' is already shipped; register yours under another name")
    for older in [key for key, file in _PLUGINS.items() if file == path.resolve()]:
        del _PLUGINS[older]
    for entry in found:
        if (other := blocks().get(entry.name)) is not None:
            raise UsageError(
                f"{path}: block '{entry.name}' is already registered by {other.path}; rename one"
            )
    _PLUGINS[module] = path.resolve()
    return found


def plugins() -> tuple[Path, ...]:
    """The plug-in files in use; worker processes add them again."""
    return tuple(_PLUGINS.values())


@cache
def _shipped() -> dict[str, BlockInfo]:
    folder = Path(__file__).parent
    entries = [
        entry
        for path in sorted(folder.glob("[!_]*.py"))
        for entry in _read(path, f"attnsearch.blocks.{path.stem}")
    ]
    return {entry.name: entry for entry in entries}


def _import(facts: BlockInfo) -> Any:
    if facts.module in sys.modules or facts.module.startswith("attnsearch."):
        return importlib.import_module(facts.module)
    return import_plugin(facts.module, facts.path)


def _read(path: Path, module: str) -> list[BlockInfo]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except SyntaxError as error:
        raise UsageError(f"{path}:{error.lineno or 1}: not valid Python: {error.msg}") from None
    except ValueError as error:  # bytes that are no text
        raise UsageError(f"{path}: not valid Python: {error}") from None
    entries = []
    presets = _presets(tree, path)
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and (registered := _registration(node, path)):
            name, slot = registered
            entries.append(
                BlockInfo(
                    name=name,
                    slot=slot,
                    module=module,
                    class_name=node.name,
                    doc=ast.get_docstring(tree) or "",
                    class_doc=ast.get_docstring(node) or "",
                    options=_options(node, path),
                    path=path,
                    presets=presets,
                )
            )
    return entries


def _registration(node: ast.ClassDef, path: Path) -> tuple[str, Slot] | None:
    for call in node.decorator_list:
        if isinstance(call, ast.Call) and getattr(call.func, "id", getattr(call.func, "attr", "")) == "block":
            arguments = dict(zip(("name",), call.args, strict=False)) | {
                w.arg: w.value for w in call.keywords
            }
            if "name" not in arguments:
                raise UsageError(f"{path}:{call.lineno}: a block needs a name: @block('my_block')")
            name = _literal(arguments["name"], path, "a block's name")
            slot = _literal(arguments["slot"], path, "a block's slot") if "slot" in arguments else "attention"
            if slot not in SLOTS:
                raise UsageError(f"{path}:{call.lineno}: {unknown('slot', slot, SLOTS)}")
            return str(name), slot
    return None


def _options(node: ast.ClassDef, path: Path) -> tuple[Option, ...]:
    init = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
    if init is None:
        return ()
    return tuple(
        Option(
            name=arg.arg,
            type=ast.unparse(arg.annotation) if arg.annotation else "",
            default=_literal(default, path, f"the default of {arg.arg}") if default is not None else None,
            choices=_literal_choices(arg.annotation, path),
        )
        for arg, default in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    )


def _presets(tree: ast.Module, path: Path) -> dict[str, dict[str, Value]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if getattr(target, "id", "") == "PRESETS":
                presets = _literal(node.value, path, "PRESETS")
                if not isinstance(presets, dict) or not all(isinstance(p, dict) for p in presets.values()):
                    raise UsageError(
                        f"{path}:{node.lineno}: PRESETS is a mapping from names to mappings of options"
                    )
                return presets
    return {}


def _literal(node: ast.expr, path: Path, what: str) -> Any:
    """The value of an expression that is read, never run."""
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        rule = f"{what} must be written out, since the file is read without being run"
        raise UsageError(f"{path}:{node.lineno}: {rule}; got {ast.unparse(node)}") from None


def _is_a(value: Any, kind: str) -> bool:
    """Whether a plain value fits one word of an annotation; words unknown here let anything pass."""
    if kind.startswith("tuple[int"):
        return isinstance(value, tuple | list) and all(_is_a(entry, "int") for entry in value)
    if isinstance(value, bool):
        return kind not in ("int", "float", "str", "None")
    kinds: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "str": (str,),
        "bool": (bool,),
        "None": (type(None),),
    }
    return kind not in kinds or isinstance(value, kinds[kind])


def _literal_choices(annotation: ast.expr | None, path: Path) -> tuple[Value, ...]:
    if isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") == "Literal":
        inner = annotation.slice
        values = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        return tuple(_literal(value, path, "a choice") for value in values)
    return ()
