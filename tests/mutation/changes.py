"""Small changes of Python code, one at a time."""

import ast
import collections
import types

Mutant = collections.namedtuple("Mutant", "file lines codes text")

_PAIRS = [
    (ast.Lt, ast.LtE),
    (ast.Lt, ast.GtE),
    (ast.Gt, ast.GtE),
    (ast.Gt, ast.LtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.And, ast.Or),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.Div),
]
# What is in code, but not computed when a function is called.
_SKIPPED = ("annotation", "returns", "decorator_list")


def _swapped(operator):
    """Yields operators that may be meant in the place of one."""
    for pair in _PAIRS:
        if type(operator) in pair:
            yield pair[type(operator) is pair[0]]()


def _changes(node):
    """Yields what may stand in the place of an expression or a statement."""
    match node:
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                for other in _swapped(op):
                    changed = [*ops[:index], other, *ops[index + 1 :]]
                    yield ast.Compare(node.left, changed, node.comparators)
        case ast.BinOp(op=op):
            for other in _swapped(op):
                yield ast.BinOp(node.left, other, node.right)
        case ast.BoolOp(op=op, values=values):
            yield ast.BoolOp(*_swapped(op), values)
            for index in range(len(values)):
                rest = values[:index] + values[index + 1 :]
                yield ast.BoolOp(op, rest) if len(rest) > 1 else rest[0]
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.If() | ast.IfExp() if isinstance(node.test, ast.Name | ast.Call):
            test = ast.UnaryOp(ast.Not(), node.test)
            yield type(node)(test, node.body, node.orelse)
        case ast.comprehension(ifs=[_, *_]):
            yield ast.comprehension(node.target, node.iter, [], node.is_async)
        case ast.Call(args=[first, second, *rest]):
            yield ast.Call(node.func, [second, first, *rest], node.keywords)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Return(value=None):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield ast.Pass()
        case ast.With():
            yield ast.If(ast.Constant(True), node.body, [])


def _head(statement):
    """Returns the lines of a statement, without those of statements within it."""
    within = getattr(statement, "body", None)
    end = within[0].lineno if within else statement.end_lineno + 1
    return range(statement.lineno, max(end, statement.lineno + 1))


def _functions(code):
    """Yields the codes of functions, but of those within one, which are part of it."""
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            # The body of a class has no fast locals.
            within = each.co_flags & 2
            yield from [each] if within else _functions(each)


def mutants(file):
    """Yields mutants of the functions in a file.

    Each has the `lines` of the statement that is changed, and the `codes` of all
    functions by their names and first lines.
    """
    tree = ast.parse(file.read_text())

    def visit(holder, in_function, lines):
        for name, value in ast.iter_fields(holder):
            if name in _SKIPPED or isinstance(holder, ast.arguments):
                continue
            whole = value if isinstance(value, list) else [value]
            for index, node in enumerate(whole):
                if not isinstance(node, ast.AST):
                    continue
                here = _head(node) if isinstance(node, ast.stmt) else lines
                for new in _changes(node) if in_function else ():
                    ast.copy_location(new, node)
                    changed = [*whole[:index], new, *whole[index + 1 :]]
                    setattr(holder, name, changed if whole is value else new)
                    ast.fix_missing_locations(tree)
                    made = _functions(compile(tree, str(file), "exec"))
                    setattr(holder, name, value)
                    codes = {(f.co_name, f.co_firstlineno): f for f in made}
                    text = f"{ast.unparse(node)}  ->  {ast.unparse(new)}"
                    yield Mutant(file, here, codes, " ".join(text.split())[:150])
                within = in_function or isinstance(node, ast.FunctionDef)
                yield from visit(node, within, here)

    return visit(tree, False, range(1))
