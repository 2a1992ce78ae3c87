"""A check that accepts a wrong answer is the worst defect there is: so the references are broken, bit by bit.

Each mutant is a reference with one small change: another constant, another comparison, a statement left out,
a source not closed. Its check must refuse it. Those that behave as the reference does are listed in
`equivalent.txt` beside this file: one line a mutant, as the failing test prints it, under a comment that says
why.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from streamlib.checker import Exercise, judge
from streamlib.exercises import lessons

EXERCISES = [exercise for exercises in lessons().values() for exercise in exercises.values()]
EQUIVALENT = {
    line
    for line in (Path(__file__).parent / "equivalent.txt").read_text(encoding="utf8").splitlines()
    if line and not line.startswith("#")
}

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The node, changed in each way that makes sense for it."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
            if value:
                yield ast.Constant(value - 1)
        case ast.Constant(value=str(text)):
            yield ast.Constant(text + "x")
            if len(text) > 1:
                yield ast.Constant(text[:-1])
        case ast.Constant(value=bytes(data)):
            yield ast.Constant(data + b"x")
        case ast.Compare(ops=[op], comparators=comparators):
            yield ast.Compare(node.left, [COMPARISONS[type(op)]()], comparators)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            yield from values
        case ast.UnaryOp(op=ast.Not()):
            yield node.operand
        case ast.BinOp(op=ast.Add()):
            yield ast.BinOp(node.left, ast.Sub(), node.right)
            yield node.left
            yield node.right
        case ast.BinOp(op=ast.Sub()):
            yield ast.BinOp(node.left, ast.Add(), node.right)
        case ast.IfExp():
            yield node.body
            yield node.orelse
        case ast.If() | ast.While():
            for value in (True, False):
                if not (isinstance(node.test, ast.Constant) and node.test.value == value):
                    changed = copy.copy(node)
                    changed.test = ast.Constant(value)
                    yield changed
        case ast.With() | ast.AsyncWith():
            yield without_cleaning_up(node)
        case ast.Try(finalbody=[_, *_]):
            yield ast.If(ast.Constant(True), node.body, [])
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case ast.Return(value=None):
            yield ast.Pass()
        case ast.Expr() | ast.Assign() | ast.AugAssign() | ast.Raise():
            yield ast.Pass()


def without_cleaning_up(node: ast.With | ast.AsyncWith) -> ast.stmt:
    """The body alone; what `as` names is what the context manager was made from."""
    body: list[ast.stmt] = []
    for item in node.items:
        if item.optional_vars is not None:
            given = item.context_expr
            if isinstance(given, ast.Call) and given.args:
                given = given.args[0]  # type: ignore[assignment]
            body.append(ast.Assign([item.optional_vars], given))
    return ast.If(ast.Constant(True), [*body, *node.body], [])


def mutants(exercise: Exercise) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Each mutant with its description: exercise, line of code, what it was, what it is."""
    source = textwrap.dedent(inspect.getsource(exercise.reference))
    tree, lines = ast.parse(source), source.splitlines()
    seen: Counter[str] = Counter()
    for path, node in walk(tree):
        for changed in changes(node):
            mutant = copy.deepcopy(tree)
            put(mutant, path, changed)
            ast.fix_missing_locations(mutant)
            namespace = dict(exercise.reference.__globals__)
            try:
                code = compile(mutant, f"<mutant of {exercise.name}>", "exec", dont_inherit=True)
            except SyntaxError:  # a `continue` outside of a loop, and the like
                continue
            exec(code, namespace)
            line = lines[getattr(node, "lineno", 1) - 1].strip()
            what = f"{first_line(node)}  ->  {first_line(changed)}"
            words = f"{exercise.name} | {line} | {what}"
            seen[words] += 1
            yield f"{words} ({seen[words]})" if seen[words] > 1 else words, namespace[exercise.name]


def first_line(node: ast.AST) -> str:
    lines = ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))).splitlines()
    return lines[0] + (" …" if len(lines) > 1 else "")


Path_ = tuple[tuple[str, int | None], ...]


def walk(node: ast.AST, path: Path_ = ()) -> Iterator[tuple[Path_, ast.AST]]:
    """Every node of the function's body with the way to it; annotations and decorators are left out."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # the docstring
    yield path, node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "args") and isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.AnnAssign, ast.arg)
        ):
            continue
        if isinstance(value, ast.AST):
            yield from walk(value, (*path, (name, None)))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if isinstance(item, ast.AST):
                    yield from walk(item, (*path, (name, number)))


def put(tree: ast.AST, path: Path_, new: ast.AST) -> None:
    """Put `new` at the end of the way."""
    for name, number in path[:-1]:
        tree = getattr(tree, name) if number is None else getattr(tree, name)[number]
    name, number = path[-1]
    if number is None:
        setattr(tree, name, copy.deepcopy(new))
    else:
        getattr(tree, name)[number] = copy.deepcopy(new)


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_no_broken_reference_is_accepted(exercise: Exercise) -> None:
    accepted = [
        words
        for words, mutant in mutants(exercise)
        if words not in EQUIVALENT and judge(mutant, exercise, seconds=1.0).passed
    ]
    assert accepted == []


def test_there_are_mutants() -> None:
    for exercise in EXERCISES:
        assert len(list(mutants(exercise))) >= 2, exercise.name


def test_the_list_of_equivalents_names_only_mutants_there_are() -> None:
    known = {words for exercise in EXERCISES for words, _ in mutants(exercise)}
    assert known >= EQUIVALENT
