"""Structured logs: one JSON object a line in the node's folder, the same or readable on stderr.

Every module says `logger = log.get_logger("name")` and `logger.info("what happened", key=value)`.
Records of libraries that use the standard library's logging come out in the same shape. Values
under names of secrets are hidden, and bytes are cut short, whatever a caller passes.
"""

import json
import logging
import logging.handlers
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TextIO

from node.folder import FILE_MODE

# structlog takes rich and pygments along for coloured traces, 0.15 s of every daemon's start; ours
# are plain, because the coloured ones show local variables. A None makes their import fail, which
# structlog is ready for.
_UNWANTED = [name for name in ("rich", "better_exceptions") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_UNWANTED))  # type: ignore[arg-type]
try:
    import structlog
    from structlog.typing import EventDict, Processor
finally:
    for _name in _UNWANTED:
        del sys.modules[_name]

HIDDEN = "(hidden)"
_SECRET_NAMES = ("password", "secret", "seed", "private", "cookie", "authorization", "token_text")
_BYTES_SHOWN = 32
_HANDLER_NAME = "northbund"
_NOISY = ("hypercorn", "web3", "multiaddr", "async_service", "httpx2", "httpcore2")
"""Libraries whose INFO is of no use to an operator. (libp2p is quietened by its guard.)"""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose records carry `name`; usable before `configure`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure(
    level: str,
    *,
    console: Literal["auto", "json", "readable", "none"] = "auto",
    file: Path | None = None,
    stream: TextIO | None = None,
) -> None:
    """From now on records of at least `level` go to `file` (JSON) and to stderr.

    `console`: `auto` is readable on a terminal, JSON else. The file is made with mode 0600 and
    reopened when a log rotation has moved it. `stream` stands in for stderr. Calling it again
    replaces everything.
    """
    stream = sys.stderr if stream is None else stream
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if (handler.name or "").startswith(_HANDLER_NAME):
            root.removeHandler(handler)
            handler.close()
    if console != "none":
        readable = console == "readable" or (console == "auto" and stream.isatty())
        _add(root, logging.StreamHandler(stream), _readable(stream) if readable else _as_json)
    if file is not None:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE))
        _add(root, logging.handlers.WatchedFileHandler(file, encoding="utf-8"), _as_json)
    set_level(level)


def set_level(level: str) -> None:
    """Records below `level` are dropped; libraries below WARNING, unless it is `debug`."""
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.getLogger().setLevel(number)
    for name in _NOISY:
        logging.getLogger(name).setLevel(
            logging.INFO if number <= logging.DEBUG else logging.WARNING
        )


@contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Inside, every record of this task and of tasks it starts carries `values`."""
    with structlog.contextvars.bound_contextvars(**values):
        yield


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        _add_time,
        structlog.processors.format_exc_info,
        hide_secrets,
    ]


def _add_time(_logger: Any, _method: str, record: EventDict) -> EventDict:
    """The time of the record itself, so that the same record has one time in every place."""
    foreign = record.get("_record")
    created = foreign.created if foreign is not None else time.time()
    record["time"] = datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")
    return record


def hide_secrets(_logger: Any, _method: str, record: EventDict) -> EventDict:
    """`record` without the values of secrets, and with bytes as short hexadecimal."""
    for key, value in record.items():
        if any(name in key.lower() for name in _SECRET_NAMES):
            record[key] = HIDDEN
        elif isinstance(value, bytes | bytearray | memoryview):
            record[key] = _short(bytes(value))
    return record


def _short(value: bytes) -> str:
    shown = "0x" + value[:_BYTES_SHOWN].hex()
    return shown if len(value) <= _BYTES_SHOWN else f"{shown}… ({len(value)} bytes)"


def _add(root: logging.Logger, handler: logging.Handler, renderer: Processor) -> None:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_shared()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.set_name(f"{_HANDLER_NAME}-{type(handler).__name__}")
    root.addHandler(handler)


def _as_json(_logger: Any, _method: str, record: EventDict) -> str:
    # `repr`, never `str`: PyNaCl's str of a key is the key.
    return json.dumps(record, ensure_ascii=False, default=repr)


def _readable(stream: TextIO) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(),
        timestamp_key="time",
        exception_formatter=structlog.dev.plain_traceback,
    )


# Before `configure`: JSON on stderr. structlog's own default prints to stdout, which belongs to a
# worker's frames, and shows the local variables of every frame of a trace, secrets among them.
structlog.configure(
    processors=[*_shared(), _as_json],
    logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    cache_logger_on_first_use=False,
)
