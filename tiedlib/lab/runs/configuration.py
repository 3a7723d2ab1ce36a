"""The configuration of a run, all that decides its numbers: `RunConfig`, and how configurations are compared.

A configuration is a frozen dataclass whose fields are made by `option`. It may gain fields: a record or a checkpoint that lacks one
was made when the field's default was all there was, so an absent field has its default, in every comparison.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

__all__ = ["RunConfig", "changed", "completed", "differences", "kind_named", "kind_of", "option", "options_of"]

# The kinds of run that travel with the library: the name that a record gives, and where its configuration is.
KINDS = {
    "language-model": "tiedlib.lab.language_model.configuration:TrainConfig",
    "language-model-first-steps": "tiedlib.lab.language_model.configuration:FirstStepsConfig",
    "autoencoder": "tiedlib.lab.autoencoder.configuration:VAEConfig",
}
_known: dict[str, type[RunConfig]] = {}  # those that have been imported, by name


def option(default: Any, what: str, **limits: Any) -> Any:
    """A field of a configuration: its default, what it is and in which unit (the flag's help), its limits.

    limits: low and high (the smallest and largest value), above and below (values that are just too small and too large), choices.
    """
    return field(default=default, metadata={"help": what, **limits})


@dataclass(frozen=True)
class RunConfig:
    """All that decides the numbers of one run. A kind of run has a subclass, whose fields are made by `option`. Raises ValueError,
    with name, value and rule, for a value that cannot be.

    kind: the name of this kind of run in records. run: where its `tiedlib.lab.runs.run.Run` is, as "module:class", so that
    a process that is given a configuration can make the run.
    """

    kind: ClassVar[str]
    run: ClassVar[str]

    seed: int = option(0, "seed of every random draw of the run", low=0, high=2**63 - 1)
    threads: int | None = option(None, "number of processor threads (none: torch chooses)", low=1)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "kind" in vars(cls):
            _known[cls.kind] = cls

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            _check(one.name, getattr(self, one.name), one)

    def digest(self) -> str:
        """Eight letters and digits that differ between configurations. They depend on what differs from the defaults alone, so
        that a new field changes no folder's name."""
        said = json.dumps([self.kind, changed(self)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:8]


def _kinds(kind: type[RunConfig]) -> Iterator[type[RunConfig]]:
    """The subclasses of a kind and theirs, those first that came last."""
    for one in reversed(kind.__subclasses__()):
        yield from _kinds(one)
        yield one


def options_of(kind: type[RunConfig]) -> list[dataclasses.Field[Any]]:
    """The fields of a kind of configuration: its own, then those of every kind."""
    common = {one.name for one in dataclasses.fields(RunConfig)}
    return sorted(dataclasses.fields(kind), key=lambda one: one.name in common)


def changed(config: RunConfig) -> dict[str, Any]:
    """The fields of a configuration that differ from their defaults."""
    values = {one.name: getattr(config, one.name) for one in dataclasses.fields(config)}
    return {one.name: values[one.name] for one in dataclasses.fields(config) if values[one.name] != one.default}


def completed(config: Mapping[str, Any], kind: type | None = None) -> dict[str, Any]:
    """A configuration as a record or a checkpoint holds it, with every field: one that is absent came later, and has its
    default. kind: its dataclass (None: the smallest that has all its fields; where there is none, nothing is added)."""
    kind = kind or kind_of(config)
    options = dataclasses.fields(kind) if kind else ()
    return {**{o.name: o.default for o in options if o.default is not dataclasses.MISSING}, **config}


def differences(found: Mapping[str, Any], wanted: Any) -> list[str]:
    """What differs between a configuration in a record or a checkpoint and the one that is wanted (a dataclass, or all fields
    of one), as "lr 1.0 (now 0.5)". Every comparison of configurations is this one: absent fields have their defaults."""
    now = dict(wanted) if isinstance(wanted, Mapping) else dataclasses.asdict(wanted)
    kind = kind_of({**found, **now}) if isinstance(wanted, Mapping) else type(wanted)
    was, now = (completed(config, kind) for config in (found, now))
    return [
        f"{name} {was.get(name, 'absent')!r} (now {now.get(name, 'absent')!r})"
        for name in {**now, **was}
        if name not in now or name not in was or _listed(was[name]) != _listed(now[name])
    ]


def _listed(value: Any) -> Any:
    """Tuples as lists, as JSON gives them back."""
    return [_listed(part) for part in value] if isinstance(value, (list, tuple)) else value


def kind_named(name: str | None) -> type[RunConfig] | None:
    """The class of configurations of the kind of run called `name`; None for a name that is not known here."""
    if name in KINDS and name not in _known:
        importlib.import_module(KINDS[name].partition(":")[0])
    return _known.get(name or "")


def kind_of(config: Mapping[str, Any]) -> type[RunConfig] | None:
    """The class of a configuration that a record holds, for records that do not name their kind: of all kinds that have all these
    fields, and whose first own field is among them, the one that lacks the fewest. None where there is none."""
    for name in KINDS:
        kind_named(name)
    lacking = {
        kind: sum(one.name not in config for one in dataclasses.fields(kind))
        for kind in _kinds(RunConfig)
        if set(config) <= {one.name for one in dataclasses.fields(kind)} and options_of(kind)[0].name in config
    }
    return min(lacking, key=lambda kind: (lacking[kind], len(dataclasses.fields(kind))), default=None)


def _check(name: str, value: Any, option: dataclasses.Field[Any]) -> None:
    rules, kind = option.metadata, str(option.type)
    if value is None and option.default is None:
        return
    if "choices" in rules and value not in rules["choices"]:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(rules['choices'])}")
    if kind == "bool" and not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False")
    if kind.startswith("int") and (isinstance(value, bool) or not isinstance(value, int)):
        raise ValueError(f"{name} is {value!r}; it must be a whole number")
    if kind.startswith("float") and (
        isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
    ):
        raise ValueError(f"{name} is {value!r}; it must be a finite number")
    for key, word in (("low", "at least"), ("above", "more than"), ("high", "at most"), ("below", "less than")):
        if key in rules and not _COMPARE[key](value, rules[key]):
            raise ValueError(f"{name} is {value}; it must be {word} {rules[key]}")


_COMPARE = {"low": operator.ge, "above": operator.gt, "high": operator.le, "below": operator.lt}
