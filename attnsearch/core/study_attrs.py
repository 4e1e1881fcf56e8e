"""The parts of `StudyInfo`, each a group of attributes; these keep their names, whatever a field is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from attnsearch.core.convergence import Convergence
from attnsearch.core.trial import Recipe

Attrs = Mapping[str, Any]


def stored(name: str = "", default: Any = None, read: Callable[[Any], Any] | None = None) -> Any:
    """A field that is stored under `name` (its own when empty) and turned from JSON's value by `read`."""
    return field(default=default, metadata={"name": name, "read": read})


class _Part:
    """A group of attributes, one for each field."""

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> Self:
        """The fields that `attrs` has; others stay at their defaults."""
        values = {}
        for entry in fields(cls):  # type: ignore[arg-type]
            value, read = attrs.get(_name(entry)), entry.metadata.get("read")
            if value is not None:
                values[entry.name] = read(value) if read else value
        return cls(**values)

    def to_attrs(self) -> dict[str, Any]:
        """Plain JSON values by attribute; what is unknown (None) is left out."""
        values = {_name(entry): getattr(self, entry.name) for entry in fields(self)}  # type: ignore[arg-type]
        return {name: plain(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class SpaceInfo(_Part):
    """The question.

    Args:
        text: the space's file; fingerprint: of host and sites.
        sites: options of each. size: archs in all. baseline: its key.
    """

    name: str | None = stored("space")
    question: str | None = stored()
    text: str | None = stored("space_text")
    fingerprint: str | None = stored()
    host: str | None = stored()
    sites: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict, metadata={"read": lambda v: _tuples(v)}
    )
    size: int | None = stored()
    baseline: str | None = stored()


@dataclass(frozen=True)
class CostsInfo(_Part):
    """The costs beside the error.

    Args:
        drawn: the axis of tables and pictures; chosen: all that the search weighs.
        range: least and most of the drawn cost in the space. units: {cost: {"unit": ..., "better": "lower"}}.
        limits: in words; over_limits: archs that they refuse.
    """

    drawn: str | None = stored("cost")
    chosen: tuple[str, ...] = stored("costs_chosen", (), tuple)
    range: tuple[float, float] | None = stored("cost_range", None, tuple)
    units: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    limits: tuple[str, ...] = stored("", (), tuple)
    over_limits: int | None = stored("over_budget")

    @property
    def axes(self) -> tuple[str, ...]:
        """The chosen costs, the drawn one where a study names no other."""
        return self.chosen or ((self.drawn,) if self.drawn else ())


@dataclass(frozen=True)
class SearchInfo(_Part):
    """How a search chooses.

    Args:
        sampler, pruner: names, with the reason where there is one.
        selected: keys of the archs that the last seeds judge, empty once they have; report_repeats: these seeds.
        control_repeats: further seeds, of the baseline and the positive control alone.
        confirmed_on: "new splits" or "other half", the images that they are judged on; empty: those of the search.
        false_stops: {"all" or an option: tally of stops}.
        controls: {key: one of `controls.POSITIVE`}, the positive control that is trained with the finalists.
    """

    sampler: str | None = stored()
    pruner: str | None = stored()
    selected: tuple[str, ...] = stored("frozen", (), tuple)
    report_repeats: tuple[int, ...] = stored("report_blocks", (), tuple)
    control_repeats: tuple[int, ...] = stored("control_blocks", (), tuple)
    confirmed_on: str = stored("", "")
    false_stops: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    controls: Mapping[str, str] | None = stored()


@dataclass(frozen=True)
class DataInfo:
    """The images: `data.facts()` of the data set, and the options that open it again.

    Args:
        image: (C, H, W); train, val, test: numbers of images, None for a split that is not there.
    """

    name: str
    classes: tuple[str, ...] = ()
    image: tuple[int, ...] = ()
    train: int | None = None
    val: int | None = None
    test: int | None = None
    fingerprint: str = ""
    note: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Attrs, options: Attrs) -> DataInfo:
        """From `data.facts()` and the options of `data.open_data`."""
        known = _known(cls, data) | {name: tuple(data.get(name) or ()) for name in ("classes", "image")}
        return cls(**known | {"options": options})

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> DataInfo | None:
        return cls.of(attrs["data"], attrs.get("data_options") or {}) if attrs.get("data") else None

    def to_attrs(self) -> dict[str, Any]:
        data = {name: plain(value) for name, value in asdict(self).items() if value is not None}
        options = data.pop("options")
        return {"data": data, "data_options": options}


@dataclass(frozen=True)
class DesignInfo:
    """An ablation.

    Args:
        kind: loo, add, swap, factorial or named. variants: names by key, the controls among them.
        controls: {key: "null gate" | "width-matched" | "adapter" | "frozen gate" | one of `controls.POSITIVE`}.
        seeds: of each variant, at most. effect: in points, of a design that goes on until it is decided; else None.
        aliases: effects that the design cannot tell apart.
    """

    kind: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)
    controls: Mapping[str, str] = field(default_factory=dict)
    seeds: int = 0
    aliases: tuple[tuple[str, ...], ...] = ()
    effect: float | None = None

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> DesignInfo | None:
        if not any(attrs.get(name) for name in ("design", "variants")):
            return None
        design = attrs.get("design") or {}
        return cls(
            kind=design.get("kind", ""),
            variants=attrs.get("variants") or {},
            controls=attrs.get("controls") or {},
            seeds=design.get("blocks", 0),
            aliases=tuple(map(tuple, design.get("aliases", ()))),
            effect=design.get("effect"),
        )

    def to_attrs(self) -> dict[str, Any]:
        design = {
            "kind": self.kind,
            "variants": len(self.variants),
            "blocks": self.seeds,
            "aliases": self.aliases,
            "effect": self.effect,
        }
        return {"design": plain(design), "variants": plain(self.variants), "controls": plain(self.controls)}


@dataclass(frozen=True)
class ProxyAudit:
    """What `validate` found: does the short training rank as a longer one does?

    Args:
        verdict: trust, use with re-evaluation, or do not trust.
        epochs, long_epochs: of the two trainings. values: of `statistics.proxy.Audit`, as plain JSON.
    """

    verdict: str
    epochs: int
    long_epochs: int
    values: Attrs

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> ProxyAudit | None:
        if not (audit := attrs.get("audit")):
            return None
        return cls(audit["verdict"], audit.get("epochs", 0), audit.get("long_epochs", 0), audit)

    def to_attrs(self) -> dict[str, Any]:
        return {"audit": {**plain(self.values), "epochs": self.epochs, "long_epochs": self.long_epochs}}


@dataclass(frozen=True)
class AuditPlan:
    """What an audit trains: archs as `Arch.to_dict()`, and the number of archs and the factor that were asked for."""

    asked: tuple[int, ...]
    archs: tuple[Attrs, ...]

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> AuditPlan | None:
        if not (planned := attrs.get("audit_plan")):
            return None
        return cls(tuple(planned["asked"]), tuple(planned["archs"]))

    def to_attrs(self) -> dict[str, Any]:
        return {"audit_plan": plain(asdict(self))}


@dataclass(frozen=True)
class TestResult:
    """One opening of the test split.

    Args:
        digest: hash of all that decides the numbers. archs: readable strings by key. seeds: of the trainings.
        opened: when, None before. errors: {key: {"val": [...], "test": [...]}} in percent, empty where none came.
        variances: of these over other images, in points squared, 0 where not known; empty in early studies.
    """

    __test__ = False  # no test of pytest's

    opening: int
    digest: str
    archs: Mapping[str, str]
    seeds: tuple[int, ...]
    opened: str | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    variances: Mapping[str, Mapping[str, list[float]]] = field(default_factory=dict)
    val_images: int = 0
    test_images: int = 0

    @classmethod
    def from_dict(cls, values: Attrs) -> TestResult:
        known = _known(
            cls,
            {
                **values,
                "digest": values.get("frozen", ""),
                "seeds": tuple(values.get("seeds", ())),
            },
        )
        return cls(**{"opening": 0, "archs": {}, **known})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what has not come yet is left out."""
        values = {name: plain(value) for name, value in asdict(self).items() if value}
        return {("frozen" if name == "digest" else name): value for name, value in values.items()}


@dataclass(frozen=True)
class TestLedger:
    """Every opening of the test split, the first one first."""

    __test__ = False

    openings: tuple[TestResult, ...] = ()

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> TestLedger:
        return cls(tuple(map(TestResult.from_dict, attrs.get("test") or ())))

    def to_attrs(self) -> dict[str, Any]:
        return {"test": [opening.to_dict() for opening in self.openings]}


@dataclass(frozen=True)
class FullTrainings:
    """Archs that were trained to full length, by the folder of the result: what its `result.json` holds."""

    results: Mapping[str, Attrs] = field(default_factory=dict)

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> FullTrainings:
        return cls(attrs.get("full_trainings") or {})

    def to_attrs(self) -> dict[str, Any]:
        return {"full_trainings": plain(self.results)}

    def with_result(self, folder: str, result: Attrs) -> FullTrainings:
        """With one more, or another in its place."""
        return FullTrainings({**self.results, folder: result})


@dataclass(frozen=True)
class SampleImages:
    """Training images as a network sees them, in one picture.

    Args:
        kind: png or jpeg. data: the file in base64. classes: of the images, before any were mixed.
        augment: what they were changed by.
    """

    kind: str
    data: str
    classes: tuple[str, ...] = ()
    augment: tuple[str, ...] = ()

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> SampleImages | None:
        if not (values := attrs.get("samples")):
            return None
        texts = {name: tuple(values.get(name, ())) for name in ("classes", "augment")}
        return cls(values["kind"], values["data"], **texts)

    def to_attrs(self) -> dict[str, Any]:
        return {"samples": plain(asdict(self))}


@dataclass(frozen=True)
class WeightsInfo:
    """The checkpoint that every training starts from, and what became of its tensors in the plain host.

    Args:
        outside: named beside the space, which says nothing of it. text: all of the rest in words.
        loaded: tensors; missing, unexpected, mismatched: the names of the first of them.
    """

    path: str
    sha256: str
    outside: bool = False
    text: str = ""
    loaded: int = 0
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> WeightsInfo | None:
        if not (values := attrs.get("weights")):
            return None
        names = ("missing", "unexpected", "mismatched")
        return cls(**_known(cls, values) | {name: tuple(values.get(name, ())) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {name: plain(value) for name, value in asdict(self).items()}

    def to_attrs(self) -> dict[str, Any]:
        return {"weights": self.to_dict()}


@dataclass(frozen=True)
class ModuleInfo(_Part):
    """A host that is a model of the user's own.

    Args:
        path: of its file when the study began. host: the fields of `arch.Host`, its fingerprint among them.
    """

    path: str = stored("host_module_path", "")
    host: Mapping[str, Any] = field(default_factory=dict, metadata={"name": "host_module"})

    @property
    def sha256(self) -> str:
        """The fingerprint; empty where the host is no module."""
        return str(self.host.get("sha256", ""))


@dataclass(frozen=True)
class RunInfo(_Part):
    """How the study trains and how that went.

    Args:
        convergence: what was measured of the recipe on this data set, if anything.
        seed: of the study. margin: a difference in points below which nothing would matter.
        precision: what `auto` was taken for when the first training began; None where the recipe names it.
        estimate: seconds and bytes of memory that the latest whole run was expected to take, and took.
        trials_wanted: trainings in all. ended: why. command, device, machine, versions: of the latest run.
    """

    seed: int = stored("", 0)
    recipe: Recipe | None = field(default=None, metadata={"read": Recipe.from_dict})
    margin: float | None = stored()
    convergence: Convergence | None = field(default=None, metadata={"read": Convergence.from_attrs})
    precision: Literal["float32", "bfloat16"] | None = stored()
    trials_wanted: int | None = stored()
    ended: str | None = stored()
    estimate: Mapping[str, Mapping[str, float]] | None = stored()
    started: str | None = stored()
    command: str | None = stored()
    device: str | None = stored()
    machine: str | None = stored()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def far_from_converged(self) -> bool:
        """Whether the recipe was measured and found to be: then no architecture is named and none is ranked."""
        return self.convergence is not None and not self.convergence.reached


def plain(value: Any) -> Any:
    """As JSON gives it back: tuples are lists, mappings dictionaries."""
    if isinstance(value, Recipe):
        return value.to_dict()
    if isinstance(value, Convergence):
        return value.to_attrs()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _name(entry: Any) -> str:
    return entry.metadata.get("name") or str(entry.name)


def _tuples(values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    return {key: tuple(items) for key, items in values.items()}


def _known(cls: type[DataInfo | TestResult | WeightsInfo], values: Attrs) -> dict[str, Any]:
    """What a dataclass has a field for; a later version may have written more."""
    names = {entry.name for entry in fields(cls)}
    return {name: value for name, value in values.items() if name in names}
