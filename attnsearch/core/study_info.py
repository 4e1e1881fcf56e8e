"""What a study says of itself, by parts, and the record that reports read.

An Optuna study keeps it as user attributes, plain JSON values under names that never change: `StudyInfo.from_attrs`
reads them at the store's edge, and each part's `to_attrs` is what the store writes. All of it is optional: a study that
an older version wrote, or that has just begun, lacks some.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from attnsearch.core.metrics import METRICS, Metric
from attnsearch.core.study_attrs import (
    Attrs,
    AuditPlan,
    CostsInfo,
    DataInfo,
    DesignInfo,
    FullTrainings,
    ModuleInfo,
    ProxyAudit,
    RunInfo,
    SampleImages,
    SearchInfo,
    SpaceInfo,
    TestLedger,
    WeightsInfo,
)
from attnsearch.core.trial import Recipe, TrialResult


@dataclass(frozen=True)
class StudyInfo:
    """A study's attributes by parts; parts that a study need not have are None."""

    space: SpaceInfo = field(default_factory=SpaceInfo)
    costs: CostsInfo = field(default_factory=CostsInfo)
    run: RunInfo = field(default_factory=RunInfo)
    search: SearchInfo = field(default_factory=SearchInfo)
    data: DataInfo | None = None
    weights: WeightsInfo | None = None
    module: ModuleInfo = field(default_factory=ModuleInfo)
    samples: SampleImages | None = None
    design: DesignInfo | None = None
    audit: ProxyAudit | None = None
    audit_plan: AuditPlan | None = None
    test: TestLedger = field(default_factory=TestLedger)
    trained: FullTrainings = field(default_factory=FullTrainings)

    @property
    def recipe(self) -> Recipe:
        """How the study trains; the default recipe where it does not say."""
        return self.run.recipe or Recipe()

    @property
    def metric(self) -> Metric:
        """What the study minimises."""
        return METRICS[self.recipe.metric]

    @property
    def guessing(self) -> float:
        """The error of guessing evenly among the classes, in percent; infinite where the classes are not known."""
        return self.metric.guessing(len(self.images.classes))

    @property
    def images(self) -> DataInfo:
        """The images; of a study that does not say, ones without a name."""
        return self.data or DataInfo("")

    @property
    def training_images(self) -> int | None:
        """How many images each training sees: the training part, or as many of it as the recipe allows."""
        return min((n for n in (self.recipe.train_images, self.images.train) if n), default=None)

    @property
    def design_kind(self) -> str:
        """loo, add, swap, factorial or named; empty for a search."""
        return self.design.kind if self.design else ""

    @property
    def verdict_on_proxy(self) -> str:
        """What an audit found of the short training; empty where there was none."""
        return self.audit.verdict if self.audit else ""

    @property
    def variants(self) -> Mapping[str, str]:
        """Names of a design's variants by key."""
        return self.design.variants if self.design else {}

    @property
    def controls(self) -> Mapping[str, str]:
        """The controls of the design or the search by key, with what each is."""
        return self.design.controls if self.design else self.search.controls or {}

    @classmethod
    def from_attrs(cls, attrs: Attrs) -> StudyInfo:
        """From a study's user attributes; names that mean nothing here are passed over."""
        return cls(
            space=SpaceInfo.from_attrs(attrs),
            costs=CostsInfo.from_attrs(attrs),
            run=RunInfo.from_attrs(attrs),
            search=SearchInfo.from_attrs(attrs),
            data=DataInfo.from_attrs(attrs),
            weights=WeightsInfo.from_attrs(attrs),
            module=ModuleInfo.from_attrs(attrs),
            samples=SampleImages.from_attrs(attrs),
            design=DesignInfo.from_attrs(attrs),
            audit=ProxyAudit.from_attrs(attrs),
            audit_plan=AuditPlan.from_attrs(attrs),
            test=TestLedger.from_attrs(attrs),
            trained=FullTrainings.from_attrs(attrs),
        )


@dataclass(frozen=True)
class StudyRecord:
    """Everything a report reads: a study's attributes as stored and by parts, and its trials, finished or not."""

    name: str
    attrs: Attrs
    trials: tuple[TrialResult, ...]
    info: StudyInfo = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "info", StudyInfo.from_attrs(self.attrs))

    @cached_property
    def finished_by_arch(self) -> Mapping[str, Sequence[TrialResult]]:
        """Trials that were trained to the end by the arch's key: a study may have thousands of both."""
        rows: dict[str, list[TrialResult]] = {}
        for row in self.trials:
            if row.finished:
                rows.setdefault(row.key, []).append(row)
        return rows
