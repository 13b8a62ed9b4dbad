"""The language of templates: Jinja2 with everything left out that a mail does not need and that could hold a worker up or reach beyond
the mail's data.

There are variables, filters, arithmetic, `if`, `for` and `set`; no macros, no blocks to inherit, no calls to methods. What can be computed
in one step is small, the steps are loops, and loops are on the clock: so a template ends in time whatever it says.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2
from django.utils.translation import gettext as _
from jinja2 import filters, meta, nodes
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer
from markupsafe import Markup, escape

# Characters in one rendered part. Gmail hides what comes after 102 kB of HTML.
LARGEST = 2_000_000
# Characters in a value that a template computes, and digits in a number.
LARGEST_VALUE = 20_000
LARGEST_NUMBER = 10**30
LONGEST_RANGE = 1_000
# Variables, operators, filters and so on in one part: with the limits above, a bound on what it can hold in memory.
MOST_NODES = 20_000
# Seconds of processor time for one rendered part, so that a busy machine refuses nothing.
LONGEST = 1.0

FILTERS = (
    "abs", "capitalize", "count", "d", "default", "e", "escape", "first", "float", "int", "items", "last", "length", "list",
    "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "safe", "select", "selectattr", "sort", "string",
    "striptags", "title", "trim", "truncate", "unique", "upper", "urlencode",
)  # fmt: skip
NODES = (
    nodes.Add, nodes.And, nodes.Assign, nodes.Call, nodes.Compare, nodes.Concat, nodes.CondExpr, nodes.Const, nodes.Dict, nodes.Div,
    nodes.Filter, nodes.FloorDiv, nodes.For, nodes.Getattr, nodes.Getitem, nodes.If, nodes.Keyword, nodes.List, nodes.Mod, nodes.Mul,
    nodes.Name, nodes.Neg, nodes.Not, nodes.Operand, nodes.Or, nodes.Output, nodes.Pair, nodes.Pos, nodes.Slice, nodes.Sub,
    nodes.Template, nodes.TemplateData, nodes.Test, nodes.Tuple,
)  # fmt: skip
LOOP = frozenset({
    "index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0", "previtem", "nextitem", "cycle", "changed",
})  # fmt: skip


class TooMuch(Exception):
    """The template makes more than a mail may hold, or takes too long over it."""


@dataclass(frozen=True, slots=True)
class Rendered:
    subject: str
    html: str
    text: str


# ------------------------------------------------------------------------------------------------- what templates can compute

_clock = threading.local()


def _metered(values: Iterable[Any]) -> Iterator[Any]:
    """Every loop's values pass through here."""
    for value in values:
        if time.thread_time() > _clock.until:
            raise TooMuch(_("The template's loops take too long."))
        yield value


def _joined(parts: Iterable[Any], separator: str = "") -> str:
    texts = [part if isinstance(part, str) else str(part) for part in parts]
    if sum(map(len, texts)) + len(separator) * len(texts) > LARGEST_VALUE:
        raise TooMuch(_("The template makes a value of more than %(limit)s characters.") % {"limit": LARGEST_VALUE})
    return separator.join(texts)


@jinja2.pass_eval_context
def _join(context: nodes.EvalContext, values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    if attribute is not None:
        values = map(filters.make_attrgetter(context.environment, attribute), values)
    parts = list(values)
    if not context.autoescape or not any(hasattr(part, "__html__") for part in [separator, *parts]):
        return _joined(parts, str(separator))
    return Markup(_joined(map(escape, parts), str(escape(separator))))  # noqa: S704  every part is escaped


@jinja2.pass_environment
def _sum(environment: Environment, values: Iterable[Any], attribute: str | None = None) -> float:
    if attribute is not None:
        values = map(filters.make_attrgetter(environment, attribute), values)
    return sum(float(value) if isinstance(value, str) else value for value in values)


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    text, old, new = str(text), str(old), str(new)
    pieces = text.split(old, count) if old else [text]
    return _joined(pieces, new)


def _round(value: Any, digits: int = 0) -> Any:
    return round(float(value), max(-6, min(digits, 12))) if _given(value) else value


def _number(value: Any, digits: int | None = None) -> Any:
    """12800 -> "12,800", as English and Japanese both write it; `digits` decimals where given."""
    if not _given(value):
        return value
    number = value if isinstance(value, int) else float(value)
    return f"{number:,}" if digits is None else f"{number:,.{max(0, min(digits, 12))}f}"


def _given(value: Any) -> bool:
    """False for what renders as nothing. Asked of a strict template's missing value, it raises UndefinedError."""
    return value is not None and value != "" and not (isinstance(value, jinja2.Undefined) and not value)


def _shown(value: Any) -> Any:
    """JSON's null is nothing, not "None"."""
    return "" if value is None else value


def _range(*bounds: int) -> range:
    values = range(*bounds)
    if len(values) > LONGEST_RANGE:
        raise TooMuch(_("A range may hold %(limit)s numbers at most.") % {"limit": LONGEST_RANGE})
    return values


# ------------------------------------------------------------------------------------------------------------ the environment


class Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"+", "*", "%"})

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for count, node in enumerate(tree.find_all(nodes.Node)):
            _permit(node)
            if count > MOST_NODES:
                raise jinja2.TemplateSyntaxError(_("The template is too complicated for a mail."), node.lineno)
        return _Guard().visit(tree)  # type: ignore[no-any-return]

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`order.items` is the item of that name: data has no other attributes."""
        if isinstance(obj, LoopContext):
            return getattr(obj, attribute) if attribute in LOOP else self.undefined(obj=obj, name=attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            return obj[argument]
        except (TypeError, LookupError, AttributeError):
            return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if isinstance(left, str) and isinstance(right, str) and operator == "+":
            return _joined([left, right])
        if isinstance(left, str) and isinstance(right, int) and operator == "*":
            return _repeated(left, right)
        if isinstance(left, int | float) and isinstance(right, int | float):
            result = super().call_binop(context, operator, left, right)
            if abs(result) > LARGEST_NUMBER:
                raise TooMuch(_("The template computes a number that is too large."))
            return result
        if isinstance(left, jinja2.Undefined) or isinstance(right, jinja2.Undefined):
            return super().call_binop(context, operator, left, right)
        raise TypeError(
            _("%(left)s %(operator)s %(right)s cannot be computed.")
            % {"left": type(left).__name__, "operator": operator, "right": type(right).__name__}
        )


def _repeated(text: str, times: int) -> str:
    if len(text) * times > LARGEST_VALUE:
        raise TooMuch(_("The template makes a value of more than %(limit)s characters.") % {"limit": LARGEST_VALUE})
    return text * times


def _permit(node: nodes.Node) -> None:
    """Raises TemplateSyntaxError for what the language leaves out."""
    if isinstance(node, nodes.For) and node.recursive:
        problem = _("Loops cannot be recursive.")
    elif isinstance(node, nodes.Name) and node.name == "self":
        # Jinja2 puts an object of its own there.
        problem = _("“%(name)s” cannot be used in mails.") % {"name": node.name}
    elif isinstance(node, nodes.Call) and not _callable(node.node):
        problem = _("Only range(...) can be called; for everything else there are filters.")
    elif not isinstance(node, NODES):
        problem = _("“%(name)s” cannot be used in mails.") % {"name": type(node).__name__.lower()}
    else:
        return
    raise jinja2.TemplateSyntaxError(problem, node.lineno)


def _callable(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Name):
        return node.name == "range"
    return isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "loop"


class _Guard(NodeTransformer):
    """Puts loops on the clock, and `~` under the cap on values (the sandbox intercepts neither)."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802  jinja2 names it so
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, "metered", [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        parts = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(parts, "concatenated", [], [], None, None, lineno=node.lineno)


class _Empty(jinja2.ChainableUndefined):
    """Renders as nothing, and so does what is asked of it: {{ address.city }} without an address."""


class _Missing(jinja2.StrictUndefined):
    """An error that names what is missing, {{ order.number }} without a number too."""

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        return _("There is no value for “%(name)s”.") % {"name": self._undefined_name}


@lru_cache
def _environment(autoescape: bool, strict: bool) -> Environment:
    environment = Environment(
        autoescape=autoescape, undefined=_Missing if strict else _Empty, finalize=_shown, keep_trailing_newline=True, cache_size=0
    )
    environment.filters = {name: environment.filters[name] for name in FILTERS} | {
        "metered": _metered,
        "concatenated": _join,
        "join": _join,
        "replace": _replace,
        "round": _round,
        "sum": _sum,
        "number": _number,
    }
    environment.globals = {"range": _range}
    return environment


# ------------------------------------------------------------------------------------------------------------------ rendering


@lru_cache(maxsize=256)
def template(source: str, *, escaped: bool, strict: bool) -> jinja2.Template:
    """`source` compiled; kept, because transactional mails bring the same words again and again. Raises TemplateSyntaxError."""
    return _environment(escaped, strict).from_string(source)


def render(compiled: jinja2.Template, data: Mapping[str, Any]) -> str:
    """Raises TooMuch, UndefinedError (strict templates only) and whatever else a template's own mistakes raise."""
    _clock.until = time.thread_time() + LONGEST
    return "".join(within_limit(compiled.root_render_func(compiled.new_context(dict(data)))))


def within_limit(pieces: Iterable[str], size: int = 0) -> Iterator[str]:
    """The pieces of a part, `size` characters of which are there already. Raises TooMuch."""
    for piece in pieces:
        size += len(piece)
        check_size(size)
        yield piece


def check_size(size: int) -> None:
    """Raises TooMuch."""
    if size > LARGEST:
        raise TooMuch(_("The mail is longer than %(limit)s characters.") % {"limit": LARGEST})


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some whole lines of a template, and the variables in them in their order."""

    #: for the operator %
    text: str
    names: tuple[str, ...]


class Plain:
    """A template of nothing but text, strings and plain variables, as most of a campaign's are. What render() would make of it (of one that
    is not strict), in an eighth of the time, and with the lines that are the same for everybody told from the others."""

    def __init__(self, stretches: Sequence[Stretch], *, escaped: bool) -> None:
        #: runs of lines without a variable are one; all but the last end with a line break
        self.stretches = stretches
        self.show: Callable[[Any], str] = escape if escaped else str

    def fill(self, stretch: Stretch, data: Mapping[str, Any]) -> str:
        show = self.show
        return stretch.text % tuple([show(_shown(data.get(name, ""))) for name in stretch.names])

    def render(self, data: Mapping[str, Any]) -> str:
        """Raises TooMuch."""
        return "".join(within_limit(self.fill(stretch, data) for stretch in self.stretches))


def plain(source: str, *, escaped: bool) -> Plain | None:
    """None of a template in which there is more. Raises TemplateSyntaxError."""
    show: Callable[[Any], str] = escape if escaped else str
    found: list[Stretch] = []
    fixed: dict[str, str] = {}
    text = ""
    names: list[str] = []
    for part in _outputs(source, escaped, fixed):
        if isinstance(part, nodes.Name) and part.name not in fixed and part.name != "range":
            text += "%s"
            names.append(part.name)
            continue
        if isinstance(part, nodes.TemplateData):
            said = part.data
        elif isinstance(part, nodes.Const) and isinstance(part.value, str):
            said = show(part.value)
        elif isinstance(part, nodes.Name) and part.name in fixed:
            said = show(fixed[part.name])
        else:
            return None
        *ended, rest = str(said).replace("%", "%%").split("\n")
        for line in ended:
            found.append(Stretch(f"{text}{line}\n", tuple(names)))
            text, names = "", []
        text += rest
    if text or not found:
        found.append(Stretch(text, tuple(names)))
    joined: list[Stretch] = []
    for stretch in found:
        if joined and not stretch.names and not joined[-1].names:
            joined[-1] = Stretch(joined[-1].text + stretch.text, ())
        else:
            joined.append(stretch)
    return Plain(joined, escaped=escaped)


def _outputs(source: str, escaped: bool, fixed: dict[str, str]) -> Iterator[nodes.Node]:
    """What a template puts out, one after the other, and whatever else it holds but strings given names: those come into `fixed`."""
    for node in _environment(escaped, False).parse(source).body:
        if isinstance(node, nodes.Output):
            yield from node.nodes
        elif (
            isinstance(node, nodes.Assign)
            and isinstance(node.target, nodes.Name)
            and isinstance(node.node, nodes.Const)
            and isinstance(node.node.value, str)
        ):
            fixed[node.target.name] = node.node.value
        else:
            yield node


def names(source: str) -> dict[str, int]:
    """The variables that a template wants from outside -> the line where each is first named. Raises TemplateSyntaxError."""
    tree = _environment(False, False).parse(source)
    wanted = meta.find_undeclared_variables(tree) - {"range"}
    found: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        if node.name in wanted:
            found.setdefault(node.name, node.lineno)
    return found


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with a template, for its author."""

    #: "subject", "html" or "text"
    field: str
    #: counted from 1
    line: int
    message: str


def check(source: str, field: str, known: Collection[str] | None) -> list[Problem]:
    """Mistakes in one part; with `known`, variables outside of it are mistakes too."""
    try:
        wanted = names(source)
        # Python has limits of its own, such as on nesting, which show when it compiles what Jinja2 made.
        template(source, escaped=field == "html", strict=False)
    except jinja2.TemplateSyntaxError as error:
        return [Problem(field, error.lineno, error.message or "")]
    except Exception as error:  # noqa: BLE001  whatever it is, it is the template's
        return [Problem(field, 1, str(error) or type(error).__name__)]
    if known is None:
        return []
    return [
        Problem(field, line, _("There is no “%(name)s” to fill in here.") % {"name": name})
        for name, line in wanted.items()
        if name not in known
    ]
