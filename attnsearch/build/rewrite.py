"""Methods of somebody else's class with `self.attention(...)` written into them, as a subclass.

A gate in the middle of a foreign unit has to be called by the unit's own `forward`: hooks are lost where a module is
replaced, replicated, traced, scripted or compiled. So the source of the method is read, the calls are written
into it, and the result becomes a method of a generated subclass. An instance takes that class, keeps its children and
their names. `torch.fx`, `torch.jit.script`, `torch.compile`, `nn.DataParallel` and `copy.deepcopy` then meet an
ordinary module; the new source is in `linecache`, where `inspect`, the debugger and TorchScript read it.
"""

from __future__ import annotations
import __future__

import ast
import copyreg
import hashlib
import inspect
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, reduce
from types import CodeType, FrameType, FunctionType
from typing import Any

from torch import nn

from attnsearch.core.errors import UsageError

_FUTURES = reduce(
    int.__or__, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)


_CHANGED: dict[type, tuple[type, dict[str, FunctionType]]] = {}  # generated classes


@dataclass(frozen=True)
class Expression:
    """Where an expression stands in a method's source: lines from 1 at the method's first, columns in bytes."""

    method: str
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, order=True)
class Edit:
    """A text to be written before what stands at (line, column) of a method's source."""

    method: str
    line: int
    column: int
    text: str


@dataclass(frozen=True)
class Source:
    """The source of one method: its text as it stands in the file, and its syntax tree."""

    function: FunctionType
    text: str
    tree: ast.FunctionDef
    shift: int  # of the tree's line numbers against the text's


def methods(cls: type) -> dict[CodeType, tuple[str, FunctionType]]:
    """The code of every method that an instance of `cls` resolves to, with its name; torch's own are left out."""
    found: dict[CodeType, tuple[str, FunctionType]] = {}
    for owner in cls.__mro__:
        if owner in (nn.Module, object):
            continue
        for name, value in vars(owner).items():
            function = inspect.unwrap(value) if inspect.isfunction(value) else value
            if isinstance(function, FunctionType) and inspect.getattr_static(cls, name) is value:
                found.update((code, (name, function)) for code in _codes(function.__code__))
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def expression_of(frame: FrameType, name: str, function: FunctionType) -> Expression | None:
    """The expression that a frame of this method is at."""
    positions = list(frame.f_code.co_positions())
    line, end_line, column, end_column = positions[frame.f_lasti // 2]
    if line is None or end_line is None or column is None or end_column is None:
        return None
    first = function.__code__.co_firstlineno - 1
    return Expression(name, line - first, column, end_line - first, end_column)


@cache
def source(function: FunctionType) -> Source:
    """The source of a method. Raises `UsageError` where it cannot be read."""
    try:
        lines, _ = inspect.getsourcelines(function)
        indented = lines[0][:1].isspace()
        text = "".join(lines)
        tree = ast.parse("if True:\n" + text if indented else text).body[0]
        node = tree.body[0] if isinstance(tree, ast.If) else tree
    except (OSError, TypeError, SyntaxError, IndexError):
        node = None
    if not isinstance(node, ast.FunctionDef):
        raise UsageError(
            f"the source of {function.__qualname__} cannot be read, so no call can be written into it"
        )
    return Source(function, text, node, int(indented))


def node_at(where: Expression, method: Source) -> ast.expr | ast.AugAssign | None:
    """The node of the syntax tree that spans this expression."""
    wanted = (where.line + method.shift, where.column, where.end_line + method.shift, where.end_column)
    for node in ast.walk(method.tree):
        if isinstance(node, ast.expr | ast.AugAssign) and _span(node) == wanted:
            return node
    return None


def wrap(name: str, method: Source, node: ast.expr) -> tuple[Edit, Edit]:
    """`node` becomes `self.attention(node)`."""
    line, column, end_line, end_column = _span(node)
    opening = f"{_self(method)}.attention("
    return (
        Edit(name, line - method.shift, column, opening),
        Edit(name, end_line - method.shift, end_column, ")"),
    )


def wrap_if(name: str, method: Source, node: ast.Call, child: str) -> tuple[Edit, Edit]:
    """As `wrap` where the function called is this child: one expression in a loop calls several."""
    line, column, end_line, end_column = _span(node)
    this, plain = f"{ast.unparse(node.func)} is {_self(method)}.{child}", ast.unparse(node)
    return (
        Edit(name, line - method.shift, column, f"({_self(method)}.attention("),
        Edit(name, end_line - method.shift, end_column, f") if {this} else {plain})"),
    )


def assign_before(name: str, method: Source, statement: ast.AugAssign) -> tuple[Edit, ...]:
    """`out += x` becomes `out = self.attention(out); out += x`."""
    line, column, *_ = _span(statement)
    target = ast.unparse(statement.target)
    text = f"{target} = {_self(method)}.attention({target}); "
    return (Edit(name, line - method.shift, column, text),)


def returned(method: Source) -> list[ast.expr]:
    """What a method itself returns, statement by statement; functions defined in it are not looked into."""
    found: list[ast.expr] = []
    stack: list[ast.AST] = list(method.tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Return) and node.value is not None:
            found.append(node.value)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            stack.extend(ast.iter_child_nodes(node))
    return found


def subclass(base: type, edits: tuple[Edit, ...]) -> type:
    """`base` with these edits in its methods. Raises `UsageError` where a method cannot be made anew."""
    digests = tuple((name, _digest(resolved(base, name))) for name in sorted({edit.method for edit in edits}))
    return _subclass(base, edits, digests)


@cache
def _subclass(base: type, edits: tuple[Edit, ...], digests: tuple[tuple[str, str], ...]) -> type:
    for name, digest in digests:
        if _digest(resolved(base, name)) != digest:
            raise UsageError(
                f"{base.__qualname__}.{name} is not what it was when the block was inserted: insert it into a fresh "
                "model and load the weights by state_dict"
            )
    changed = {
        name: _rewritten(base, name, [edit for edit in edits if edit.method == name]) for name, _ in digests
    }

    def reduce_ex(self: Any, protocol: Any) -> Any:
        made = base.__reduce_ex__(self, protocol)  # type: ignore[call-arg]
        if made[0] is not copyreg.__newobj__:  # type: ignore[attr-defined]
            return made
        return (_blank, (base, edits, digests), *made[2:])

    names: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
    }
    cls: type[Any] = type(base)(base.__name__, (base,), {**names, **changed, "__reduce_ex__": reduce_ex})
    _CHANGED[cls] = (base, changed)
    return cls


def changed_methods(cls: type) -> tuple[type, dict[str, FunctionType]]:
    """What a generated class was made from, and its methods with a call written in; for others nothing."""
    return _CHANGED.get(cls, (cls, {}))


def _blank(base: type, edits: tuple[Edit, ...], digests: tuple[tuple[str, str], ...]) -> Any:
    """An instance without state, for copy and pickle: the generated class has no name to be found by."""
    cls = _subclass(base, edits, digests)
    return object.__new__(cls)


def _rewritten(base: type, name: str, edits: list[Edit]) -> FunctionType:
    function = resolved(base, name)
    text = _edited(source(function).text, edits)
    if not text[:1].isspace():
        text = "".join(f"    {line}" for line in text.splitlines(keepends=True))
    indent = text[: len(text) - len(text.lstrip())]
    free = function.__code__.co_freevars
    maker = f"def _make({', '.join(free)}):\n{text}\n{indent}return {function.__name__}\n"
    filename = f"<{base.__module__}.{function.__qualname__} with attention {_digest(text)}>"
    linecache.cache[filename] = (len(maker), None, maker.splitlines(keepends=True), filename)
    try:
        values = [cell.cell_contents for cell in function.__closure__ or ()]
        flags = function.__code__.co_flags & _FUTURES
        made: dict[str, Any] = {}
        exec(compile(maker, filename, "exec", flags=flags, dont_inherit=True), function.__globals__, made)
        result: FunctionType = made["_make"](*values)
    except Exception as error:  # a decorator or a default of a foreign method may raise anything
        raise UsageError(f"{function.__qualname__} cannot be made anew with a call in it: {error}") from None
    result.__qualname__, result.__module__ = function.__qualname__, function.__module__
    return result


def _edited(text: str, edits: list[Edit]) -> str:
    lines = text.encode().splitlines(keepends=True)
    # From the end, so that places before stay; at one place a closing bracket goes in front of an opening call.
    for edit in sorted(edits, key=lambda e: (e.line, e.column, not e.text.startswith(")")), reverse=True):
        line = lines[edit.line - 1]
        lines[edit.line - 1] = line[: edit.column] + edit.text.encode() + line[edit.column :]
    return b"".join(lines).decode()


def resolved(base: type, name: str) -> FunctionType:
    """The function behind a method of `base`, whatever decorates it."""
    function = inspect.unwrap(inspect.getattr_static(base, name))
    if not isinstance(function, FunctionType):
        raise UsageError(
            f"{base.__qualname__}.{name} is not a plain method, so no call can be written into it"
        )
    return function


def _digest(what: FunctionType | str) -> str:
    text = what if isinstance(what, str) else source(what).text
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _self(method: Source) -> str:
    return method.function.__code__.co_varnames[0]


def _span(node: ast.expr | ast.AugAssign) -> tuple[int, int, int, int]:
    return node.lineno, node.col_offset, node.end_lineno or 0, node.end_col_offset or 0
