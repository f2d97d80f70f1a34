"""Results for a person: tables and trees by rich.

Names and reasons come from other organisations, so nothing in them is markup, and what a terminal
would obey (escape sequences) is replaced.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

_WIDTH_WITHOUT_TERMINAL = 240


def print_value(value: Any) -> None:
    """Any JSON value: a list of objects as a table, an object as names beside values."""
    with _screen() as screen:
        if isinstance(value, list):
            _print_list(screen, "", value)
        elif isinstance(value, dict):
            _print_object(screen, value)
        else:
            screen.print(Text(plain(value)))


def print_tree(value: dict[str, Any]) -> None:
    """An object whose `children` are objects of the same kind, as a tree."""
    with _screen() as screen:
        screen.print(_branch(value))


@contextmanager
def _screen() -> Iterator[Console]:
    """stdout; wide where no terminal cuts it, so that ids stay in one piece."""
    width = None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL
    screen = Console(width=width, highlight=False, markup=False, emoji=False)
    with screen.capture() as capture:
        yield screen
    # rich fills every cell with spaces up to its column's width, the last one too
    lines = [line.rstrip() for line in capture.get().splitlines()]
    sys.stdout.write("".join(line + "\n" for line in lines))
    sys.stdout.flush()  # a command may go on running


def plain(value: Any) -> str:
    """`value` on one line, without anything that a terminal would obey."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def _print_object(screen: Console, value: dict[str, Any]) -> None:
    if not value:
        screen.print("none")
        return
    rows = list(_flat(value))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, each in rows:
        if not _is_table(each):
            grid.add_row(Text(name, style="bold"), Text(_cell(each)))
    if grid.row_count:
        screen.print(grid)
    for name, each in rows:
        if _is_table(each):
            screen.print()
            _print_list(screen, name, each)


def _flat(value: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of an object and of the objects inside, whose names stand behind its own."""
    for name, each in value.items():
        words = f"{above}{plain(name)}"
        if isinstance(each, dict) and each:
            yield from _flat(each, words + " ")
        else:
            yield words, each


def _print_list(screen: Console, title: str, rows: list[Any]) -> None:
    if title:
        screen.print(Text(title, style="bold"))
    if not rows:
        screen.print("none")
    elif not _is_table(rows):
        for row in rows:
            screen.print(Text(_cell(row)))
    else:
        columns = list(dict.fromkeys(name for row in rows for name in row))
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
        for column in columns:
            table.add_column(Text(plain(column), style="bold"), overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(row.get(column))) for column in columns))
        screen.print(table)


def _is_table(value: Any) -> bool:
    return bool(value) and isinstance(value, list) and all(isinstance(row, dict) for row in value)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{plain(name)} {_cell(each)}" for name, each in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value) or "-"
    return plain(value)


def _branch(value: dict[str, Any]) -> Tree:
    words = [_cell(each) for name, each in value.items() if name != "children"]
    tree = Tree(Text("  ".join(words)))
    for child in value.get("children") or []:
        tree.children.append(_branch(child))
    return tree
