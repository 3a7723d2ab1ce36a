"""Reading text files, and cutting text into words."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tiedlib.lab.data.errors import BadByteError, DataError, EmptyFileError, FormatError, MissingFileError
from tiedlib.lab.data.vocabulary import EOS

_TOKEN = re.compile(r"<unk>|<eos>|\d+(?:[.,]\d+)+|\w+(?:['’\-]\w+)*|[^\w\s]")
_PIECE = 1 << 20


def decode_text(raw: bytes, source: str, encoding: str = "utf-8") -> str:
    """The text that these bytes spell, its lines ended by line feeds (see `plain`). source: the name for errors.

    Bytes of another encoding are taken as UTF-16 where they begin with its byte order mark, and never without one. Raises
    BadByteError with the place of the first byte that the encoding does not allow, or of a NUL byte, which no text has;
    EmptyFileError where there is nothing but white space.
    """
    if encoding == "utf-8" and raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(encoding, "ignore")
        raise _bad_byte(source, encoding, raw[error.start], error.start, before) from None
    if "\0" in text:
        before = text[: text.index("\0")]
        raise _bad_byte(source, encoding, 0, len(before.encode(encoding)), before)
    text = plain(text)
    if not text.strip():
        raise EmptyFileError(f"{source} is empty: it holds no word. Give a file with text in it")
    return text


def plain(text: str) -> str:
    """The text with one kind of line end: CRLF and CR become LF. A byte order mark goes, at the start and where files were
    joined, at the start of a line. Nothing else ends a line: form feed, U+0085, U+2028 and their like are white space in it."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.removeprefix("\ufeff").replace("\n\ufeff", "\n")


def _bad_byte(source: str, encoding: str, byte: int, offset: int, before: str) -> BadByteError:
    line = plain(before).count("\n") + 1
    return BadByteError(
        f"{source} is not {encoding}: byte 0x{byte:02x} at offset {offset}, in line {line}, does not belong there. "
        "Save it as plain text in UTF-8 (UTF-16 is read where it begins with its byte order mark) and try again"
    )


def read_bytes(path: Path) -> bytes:
    """The whole file. Raises MissingFileError or DataError where it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"there is no file {str(path)!r}: check the path") from None
    except OSError as error:
        raise DataError(
            f"cannot read {str(path)!r} ({error.strerror}): give a plain text file that you may read"
        ) from error


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file; raises what `read_bytes` and `decode_text` raise."""
    return decode_text(read_bytes(path), str(path), encoding)


def read_gzip(path: Path) -> bytes:
    """The inflated bytes of a gzip file. Raises FormatError for a broken one."""
    try:
        return gzip.decompress(read_bytes(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise FormatError(f"{path} is not a whole gzip file ({error})") from error


def read_member(archive: bytes, member: str, source: str) -> bytes:
    """One file of a zip archive. Raises FormatError for a broken archive or one without that file."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            return opened.read(member)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise FormatError(f"{source} is not a zip archive with a file {member!r} in it ({error})") from error


def lines(text: str) -> list[str]:
    """The lines of a text, cut at line feeds only (`str.splitlines` cuts at a dozen other characters too)."""
    return text.removesuffix("\n").split("\n")


def words_with_eos(text: str) -> list[str]:
    """The words that white space separates, and `<eos>` at the end of every line, as in Zaremba et al. 2014 (PTB)."""
    return (text if text.endswith("\n") else text + "\n").replace("\n", f" {EOS} ").split()


def tokenize(text: str) -> list[str]:
    """Words, numbers and single punctuation marks; `<unk>` and `<eos>` stay whole.

    >>> tokenize("It's well-kept, isn't it?")
    ["It's", 'well-kept', ',', "isn't", 'it', '?']
    """
    return _TOKEN.findall(text)


def stream_words(text: str) -> Iterator[str]:
    """The words of a long text, one by one, without a list of them all (text8 has 17 million)."""
    return chain.from_iterable(piece.split() for piece in _pieces(text))


def _pieces(text: str) -> Iterator[str]:
    """The text cut into pieces of about a million characters, at spaces."""
    start = 0
    while start < len(text):
        end = text.find(" ", start + _PIECE)
        end = len(text) if end < 0 else end
        yield text[start:end]
        start = end
