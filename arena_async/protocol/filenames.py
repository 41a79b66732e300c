r"""
Names on the local disk, made from whatever the services call things.

A name that is made here is one component, never more: no separator, no drive, no ``..``, nothing that Windows, macOS or
Linux refuses, hides or reads as something else. The same text always gives the same name, and two different texts never
give names that one file system could take for the same: not where upper and lower case are one, not where composed and
decomposed accents are one.

========================  ===========================  ==============================================================
what came                 what it is called            why
========================  ===========================  ==============================================================
``study-12``              ``study-12``                 it is plain
``VDXGURVX8P8O7QH2PO36``  ``VDXGURVX8P8O7QH2PO36``     it is plain: identifiers of this kind are written in capitals
``Weekly``                ``Weekly~29751324``          ``weekly`` is the plain one of those that differ in case only
``../../evil``            ``_.._.._evil~…``            everything that is changed carries a mark of the whole text
``-rf``, ``.ssh``         ``_-rf~…``, ``_.ssh~…``      programs read more into such a beginning
========================  ===========================  ==============================================================
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from arena_async.errors import UnsafeNameError

__all__ = [
    "collision_suffix",
    "file_name_from_url",
    "fold",
    "is_plain",
    "safe_component",
    "safe_name",
    "safe_path",
    "split_extension",
]

#: Bytes of a component with its mark. Every file system in use takes 255; a twin's mark of 9 bytes must still fit.
_MAXIMUM = 240

#: The separators of every system, and what Windows refuses.
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions
_REFUSED = frozenset('<>:"/\\|?*')
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])[ ]*", re.IGNORECASE
)

#: Characters that are letters or marks by class and show nothing: fillers, joiners, variation selectors.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")

#: What needs no closer look, but for the reserved names: a list may have a million of them.
_EVERYDAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")

_MARK = re.compile(r"~[0-9a-f]{8}(?=\.|\Z)", re.IGNORECASE)
_EXTENSION = re.compile(r"(?:\.[A-Za-z0-9]{1,8}){1,2}\Z")
_PLAIN_EXTENSION = re.compile(r"(?:\.[a-z0-9][a-z0-9_-]{0,15}){0,3}")
_WORD = re.compile(r"[A-Za-z0-9]+")
#: A capital, or a word that may be an identifier of capitals written small: what has neither has its usual case.
_UNUSUAL = re.compile(r"[A-Z]|(?<![a-z0-9])(?=[a-z0-9]{8})[0-9a-f]*[g-z]")


def safe_component(text: str, *, fallback: str = "unnamed") -> str:
    """
    Make one path component of any text; an extension it has is kept at the end.

    Args:
        text: What the service says.
        fallback: What to call it when nothing usable is left of ``text``; a mark is added all the same.
    """
    if is_plain(text):
        return text
    base, extension = split_extension(_clean(text))
    return _marked(base, extension, text, fallback)


def safe_name(text: str, *, fallback: str = "unnamed") -> str:
    """
    Make one path component that stays what it is called wherever that is safe, capital letters included.

    Two of them may differ in case only, unlike those of :func:`safe_component`: whoever uses it compares what
    :func:`fold` gives.
    """
    if _is_everyday(text) or (
        0 < len(text.encode("utf-8", "surrogatepass")) <= _MAXIMUM and _clean(text) == text and not _MARK.search(text)
    ):
        return text
    base, extension = split_extension(_clean(text))
    return _marked(base, extension, text, fallback)


def fold(path: str) -> str:
    """Give the same text for all paths that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def safe_path(parts: Sequence[str], stem: str, extension: str = "", *, fallback: str = "unnamed") -> PurePosixPath:
    """
    Make a relative path of folders and a file name, each cleaned on its own, so that it stays below any root.

    Args:
        parts: The folders, from the outside in.
        stem: The file name without its extension.
        extension: With its dot, or "".
        fallback: What to call a folder or file of whose name nothing is left.

    Raises:
        UnsafeNameError: There are more components than any file system takes.
    """
    if len(parts) > 100:
        raise UnsafeNameError(
            f"A path of {len(parts)} folders was asked for; at most 100 are made. Shorten the layout."
        )
    folders = [safe_component(part, fallback=fallback) for part in parts]
    return PurePosixPath(*folders, _leaf(stem, extension, fallback))


def is_plain(text: str) -> bool:
    """Say whether a component is used as it is: safe everywhere, and the only plain one of those that look alike."""
    if _is_everyday(text):
        return not _UNUSUAL.search(text) or _WORD.sub(_usual_case, text) == text
    return (
        0 < len(text.encode("utf-8", "surrogatepass")) <= _MAXIMUM
        and _clean(text) == text
        and not _MARK.search(text)
        and _WORD.sub(_usual_case, text) == text
        and all(letter.isascii() or _one_case(letter) for letter in text)
    )


def _is_everyday(text: str) -> bool:
    """Say whether a text is seen at a glance to be a name that nothing has to be done to, letters' case aside."""
    return (
        len(text) <= _MAXIMUM
        and _EVERYDAY.fullmatch(text) is not None
        and not _RESERVED.fullmatch(text.partition(".")[0])
    )


def file_name_from_url(url: str) -> str:
    """
    Give the last path segment of an address, decoded, without query and fragment; "" when it has none.

    It is what the server says, and must go through :func:`safe_component` before it names a file.
    """
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    decoded = unquote(path.rsplit("/", 1)[-1], errors="replace")
    return re.split(r"[/\\]", decoded)[-1]


def collision_suffix(name: str) -> str:
    """Give the mark, ``~`` and 8 hexadecimal digits, that tells files of one key in one listing apart."""
    return f"~{_digest(name)}"


def _leaf(stem: str, extension: str, fallback: str) -> str:
    """
    Make the file name.

    A stem with a dot in it is marked: ``a.csv`` with ``.gz`` and ``a`` with ``.csv.gz`` are two files.
    """
    plain_extension = _PLAIN_EXTENSION.fullmatch(extension) is not None
    if is_plain(stem) and plain_extension and "." not in stem and len((stem + extension).encode()) <= _MAXIMUM:
        return stem + extension
    base = _clean(stem)
    end = extension if plain_extension else _clean_extension(extension)
    if not extension:
        base, end = split_extension(base)
    return _marked(base, end, f"{stem}\0{extension}", fallback)


def _clean_extension(extension: str) -> str:
    """Give what can be kept of an extension."""
    kept = re.sub(r"[^a-z0-9_.-]", "", extension.lower())
    end = re.search(r"(?:\.[a-z0-9][a-z0-9_-]{0,15}){1,3}\Z", kept)
    return end[0] if end else ""


def _marked(base: str, extension: str, text: str, fallback: str) -> str:
    """Put a mark of the whole text behind what is left of it, and cut that to fit, between characters."""
    mark = f"~{_digest(text)}"
    room = _MAXIMUM - len(mark) - len(extension)
    kept = base if base.strip("_ .") else _clean(fallback) or "unnamed"
    cut = kept.encode()[:room].decode(errors="ignore").rstrip(" .")
    return f"{cut}{mark}{extension}"


def split_extension(name: str) -> tuple[str, str]:
    """Split a name before its extension, which may be double; a name that is nothing but an extension has none."""
    end = _EXTENSION.search(name)
    if end is None or not name[: end.start()].strip("_ ."):
        return name, ""
    return name[: end.start()], end[0]


def _clean(text: str) -> str:
    """Replace what some system refuses, hides or misreads. A text that comes back unchanged is safe as it is."""
    composed = unicodedata.normalize("NFC", text)
    shown = _UNSEEN.sub("_", "".join("_" if _is_refused(letter) else letter for letter in composed))
    # NFC again: what was replaced may have kept two characters apart. Windows drops dots and spaces at the end.
    kept = unicodedata.normalize("NFC", shown).strip(" ").rstrip(" .")
    odd = kept[:1] in (".", "-", "~") or _RESERVED.fullmatch(kept.split(".", 1)[0]) or _starts_unattached(kept)
    return f"_{kept}" if odd else kept


def _is_refused(letter: str) -> bool:
    """Say whether a character must not be in a name: controls, format and bidi marks, odd spaces, lone surrogates."""
    return letter in _REFUSED or (letter != " " and unicodedata.category(letter) in _REFUSED_CLASSES)


_REFUSED_CLASSES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def _starts_unattached(text: str) -> bool:
    """Say whether it begins with a combining mark, which would combine with whatever stands before it."""
    return bool(text) and unicodedata.category(text[0]).startswith("M")


def _one_case(letter: str) -> bool:
    """Say whether a letter beyond ASCII stays itself however a file system folds case."""
    return letter.casefold() == letter and letter.upper().lower() == letter


def _usual_case(word: re.Match[str]) -> str:
    """Write a word in its plain case: capitals for identifiers such as the guids of Arena, else small."""
    small = word[0].lower()
    is_identifier = len(small) >= 8 and len(re.findall(r"[0-9]+", small)) >= 2 and re.search(r"[g-z]", small)
    return small.upper() if is_identifier else small


def _digest(text: str) -> str:
    """Give 8 hexadecimal digits of a text, whatever is in it."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
