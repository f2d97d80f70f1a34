"""Results for a person: tables and trees by rich.

Names and reasons come from other organisations, so nothing in them is markup, and every text goes
through `wording`, which replaces what a terminal would obey (escape sequences).
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from node.cli.wording import plain, words

_WIDTH_WITHOUT_TERMINAL = 4096


def print_value(value: Any) -> None:
    """Any JSON value: a list of objects as a table, an object as names beside values."""
    with _screen() as screen:
        if isinstance(value, list):
            _print_list(screen, "", value)
        elif isinstance(value, dict):
            _print_object(screen, value)
        else:
            screen.print(Text(words("", value)))


def print_tree(value: dict[str, Any]) -> None:
    """An object whose `children` are objects of the same kind, as a tree."""
    with _screen() as screen:
        screen.print(_branch(value))


@contextmanager
def _screen() -> Iterator[Console]:
    """stdout; so wide where no terminal cuts it that each row is one line."""
    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    screen = Console(width=width, highlight=False, markup=False, emoji=False)
    with screen.capture() as capture:
        yield screen
    # rich fills every cell with spaces up to its column's width, the last one too
    lines = [line.rstrip() for line in capture.get().splitlines()]
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()  # a command may go on running


def _print_object(screen: Console, value: dict[str, Any]) -> None:
    if not value:
        screen.print("none")
    elif _is_keyed(value):
        _print_list(screen, "", _rows(value))
    else:
        _print_names(screen, list(_flat(value)))


def _print_names(screen: Console, rows: list[tuple[str, str, Any]]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for title, name, each in rows:
        if not _is_table(each):
            grid.add_row(Text(title, style="bold"), Text(words(name, each)))
    if grid.row_count:
        screen.print(grid)
    for title, _, each in rows:
        if _is_table(each):
            screen.print()
            _print_list(screen, title, each)


def _flat(value: dict[str, Any], above: str = "") -> Iterator[tuple[str, str, Any]]:
    """Title, name and value of each member; an object's members stand behind its own title."""
    for name, each in value.items():
        title = f"{above}{plain(name)}"
        if _is_keyed(each):
            yield title, name, _rows(each)
        elif isinstance(each, dict) and each:
            yield from _flat(each, title + " ")
        else:
            yield title, name, each


def _print_list(screen: Console, title: str, rows: list[Any]) -> None:
    if title:
        screen.print(Text(title, style="bold"))
    if not rows:
        screen.print("none")
    elif not _is_table(rows):
        for row in rows:
            screen.print(Text(words("", row)))
    else:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for column in columns:
            table.add_column(Text(plain(column), style="bold"), overflow="fold")
        for row in rows:
            table.add_row(*(Text(words(column, row.get(column))) for column in columns))
        screen.print(table)


def _is_table(value: Any) -> bool:
    return bool(value) and isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _is_keyed(value: Any) -> bool:
    """Whether `value` is an object of at least two alike objects: a table under another form."""
    if not isinstance(value, dict) or len(value) < 2:
        return False
    inner = list(value.values())
    return all(isinstance(each, dict) and each and each.keys() == inner[0].keys() for each in inner)


def _rows(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [{" ": key} | each for key, each in value.items()]


def _branch(value: dict[str, Any]) -> Tree:
    told = [words(name, each) for name, each in value.items() if name != "children"]
    tree = Tree(Text("  ".join(told)))
    for child in value.get("children") or []:
        tree.children.append(_branch(child))
    return tree
