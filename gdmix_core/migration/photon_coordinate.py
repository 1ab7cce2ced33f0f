"""One coordinate configuration of Photon ML as one of ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gdmix_core.errors import ConfigError
from gdmix_core.migration.names import number, plain
from gdmix_core.migration.translation import Translation

_KEYS = frozenset(
    {
        "feature.shard", "min.partitions", "optimizer", "max.iter", "tolerance", "regularization", "reg.weights",
        "reg.alpha", "reg.weight.range", "reg.alpha.range", "incremental.weight", "down.sampling.rate",
        "random.effect.type", "active.data.lower.bound", "active.data.upper.bound", "features.to.samples.ratio",
    }
)  # fmt: skip
_SOLVERS = {"LBFGS": "lbfgs", "TRON": "newton_cg", "OWLQN": "auto"}


def pairs_of(text: str) -> dict[str, str]:
    """Read `uid=id,response=label,…` as a dictionary."""
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def named_pairs(option: str, text: str) -> dict[str, str]:
    """Read `name=global,reg.weights=1|10,…` as a dictionary. Raises ConfigError for one without a name."""
    pairs = pairs_of(text)
    if "name" not in pairs:
        raise ConfigError(f"--{option} {text!r}: name= is missing")
    return pairs


@dataclass(frozen=True)
class Shard:
    """A feature shard: the union of some bags, with or without an intercept."""

    name: str
    bags: tuple[str, ...]
    intercept: bool

    @classmethod
    def parse(cls, text: str) -> Shard:
        pairs = named_pairs("feature-shard-configurations", text)
        bags = tuple(bag for bag in pairs.get("feature.bags", "").split("|") if bag)
        return cls(pairs["name"], bags, pairs.get("intercept", "true").lower() == "true")

    def as_bag(self, result: Translation) -> dict[str, Any]:
        """Make our keys bag and intercept."""
        if len(self.bags) > 1:
            result.check(
                f"shard {self.name}",
                f"is the union of {', '.join(self.bags)}; a coordinate has one bag here: write them as {self.name}",
            )
        bag = self.name if len(self.bags) > 1 else "".join(self.bags)
        return {**({"bag": bag} if bag else {}), **({} if self.intercept else {"intercept": False})}


def shard_of(name: str, given: Mapping[str, str], shards: Mapping[str, Shard]) -> Shard:
    found = shards.get(given.get("feature.shard", ""))
    if found is None:
        raise ConfigError(f"coordinate {name}: feature.shard {given.get('feature.shard')!r} is not configured")
    return found


def translate_coordinate(
    name: str, given: Mapping[str, str], shards: Mapping[str, Shard], result: Translation
) -> dict[str, Any]:
    """Translate a coordinate. Raises ConfigError for keys that Photon ML does not have."""
    unknown = sorted(set(given) - _KEYS)
    if unknown:
        raise ConfigError(
            f"coordinate {name}: {unknown[0]} is no key of a coordinate; known: {', '.join(sorted(_KEYS))}"
        )
    shard = shard_of(name, given, shards)
    penalty = _penalty(name, given)
    random = "random.effect.type" in given
    effect = {"random_effect": _random(given, result)} if random else {"fixed_effect": _fixed(given)}
    lasso = "alpha" in penalty
    covered = shard.intercept and penalty["l2"] != 0 and (lasso or name != shard.name)
    if covered and not lasso:
        result.changed(
            f"{name} intercept",
            "Photon ML means to leave the intercept out of the L2 penalty, but does so only where coordinate and shard "
            "have the same name. regularize_intercept: true keeps its results; false is what its documentation says",
        )
    if covered and lasso:
        result.changed(
            f"{name} intercept",
            "Photon ML's L1 penalty always covers it. regularize_intercept: true keeps its results; false is usual",
        )
    if "min.partitions" in given:
        result.ignored(
            "min.partitions", "shards follow from the number of rows; random_effect.shards sets their number"
        )
    return {**effect, **shard.as_bag(result), **penalty, "regularize_intercept": covered}


def _penalty(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    kind = given.get("regularization", "NONE").upper()
    if kind == "NONE":
        return {"l2": 0}
    if kind not in ("L1", "L2", "ELASTIC_NET"):
        raise ConfigError(f"coordinate {name}: regularization {kind}; expected NONE, L1, L2 or ELASTIC_NET")
    # In Photon ML's order: each model starts from the one with the next larger weight.
    written = sorted((number(w, f"{name} reg.weights") for w in given.get("reg.weights", "").split("|")), reverse=True)
    weights: Any = plain(written[0]) if len(written) == 1 else [plain(w) for w in written]
    if kind == "L2":
        return {"l2": weights}
    # L1 alone is an elastic net without L2, which lets a list of weights be a grid.
    alpha = 1.0 if kind == "L1" else number(given.get("reg.alpha"), f"{name} reg.alpha")
    return {"l2": weights, "alpha": plain(alpha)}


def _fixed(given: Mapping[str, str]) -> dict[str, Any]:
    effect: dict[str, Any] = {}
    if "optimizer" in given and given.get("regularization", "NONE").upper() not in ("L1", "ELASTIC_NET"):
        effect["solver"] = _SOLVERS.get(given["optimizer"].upper(), "auto")
    effect |= _integers(given, {"max.iter": "max_iterations"})
    rate = number(given.get("down.sampling.rate", "1"), "down.sampling.rate")
    return effect | ({"downsampling": rate} if rate < 1 else {})


def _random(given: Mapping[str, str], result: Translation) -> dict[str, Any]:
    effect = {"entity": given["random.effect.type"], **_integers(given, {"max.iter": "max_iterations"})}
    if samples := _integers(given, {"active.data.lower.bound": "min", "active.data.upper.bound": "max"}):
        effect["samples"] = samples
    if "features.to.samples.ratio" in given:
        effect["features_to_samples"] = number(given["features.to.samples.ratio"], "features.to.samples.ratio")
    if "optimizer" in given:
        result.ignored("optimizer", "of a random effect: every entity is solved by Newton's method")
    if "down.sampling.rate" in given:
        result.ignored("down.sampling.rate", "of a random effect: Photon ML ignores it too")
    return effect


def _integers(given: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, Any]:
    """Read those of these keys that are given, as numbers under our names."""
    return {name: int(number(given[key], key)) for key, name in ours.items() if key in given}


def search_ranges(name: str, given: Mapping[str, str]) -> dict[str, Any]:
    """Make tune.parameters of a coordinate (`name` is ours), with Photon ML's default ranges."""
    kind = given.get("regularization", "NONE").upper()
    if kind == "NONE":
        return {}
    low, high = _span(given.get("reg.weight.range", "1e-4-1e4"))
    found: dict[str, Any] = {f"coordinates.{name}.l2": {"low": low, "high": high, "log": True}}
    if kind == "ELASTIC_NET":
        low, high = _span(given.get("reg.alpha.range", "0-1"))
        found[f"coordinates.{name}.alpha"] = {"low": low, "high": high}
    return found


def _span(text: str) -> tuple[float, float]:
    """Read start-end, whose numbers may have exponents with a sign."""
    for at in range(1, len(text)):
        if text[at] == "-" and text[at - 1].lower() != "e":
            return number(text[:at], text), number(text[at + 1 :], text)
    raise ConfigError(f"range {text!r}: expected start-end, such as 1e-4-1e4")
