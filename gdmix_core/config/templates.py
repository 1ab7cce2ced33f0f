"""The Jinja templates that a configuration may hold: expressions that end, whatever they compute."""

from __future__ import annotations

import functools
from typing import Any

from gdmix_core.errors import ConfigError

# A path has some hundred characters, and a setting some digits.
_MAX_LENGTH = 100_000
_MAX_ITEMS = 1000


def is_template(text: str) -> bool:
    return "{{" in text or "{%" in text


@functools.cache
def environment() -> Any:
    """Return a sandboxed jinja2.Environment: unknown names are errors, and so is what would compute for ever.

    Its from_string raises ConfigError for loops within loops and for macros; rendering does for a range, a product or
    a power beyond what a setting can be.
    """
    import jinja2
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

    class Environment(SandboxedEnvironment):
        intercepted_binops = frozenset(["*", "**"])

        def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
            tree = super()._parse(source, name, filename)
            if any(any(loop.find_all(nodes.For)) for loop in tree.find_all(nodes.For)):
                raise ConfigError("a loop within a loop: a setting's template may have one")
            if any(tree.find_all((nodes.Macro, nodes.CallBlock, nodes.Include, nodes.Import, nodes.Extends))):
                raise ConfigError("macros and other files are not for a setting's template; write the expression")
            return tree

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
                    if len(many) * times > _MAX_LENGTH:
                        raise ConfigError(f"a product of {len(many) * times:,} items")
                    return many * times
            if operator == "**" and abs(right) > 64:
                raise ConfigError(f"a power of {right}")
            if isinstance(left, int) and abs(left) > 1 << 64:
                raise ConfigError(f"a product of numbers of {left.bit_length()} bits")
            return super().call_binop(context, operator, left, right)

    made = Environment(undefined=jinja2.StrictUndefined)
    made.globals["range"] = _range
    made.globals.pop("lipsum", None)
    return made


def _range(*ends: int) -> range:
    """Return Python's range, of a thousand numbers at most."""
    made = range(*ends)
    if len(made) > _MAX_ITEMS:
        raise ConfigError(f"a range of {len(made):,} numbers; {_MAX_ITEMS} are allowed")
    return made
