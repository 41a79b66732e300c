r"""
Local file names and paths, made from the names of the services.

Such a name is exactly one path component: no separator, no drive, no ``..``, nothing that Windows, macOS or Linux
rejects, hides or interprets differently. The same text always has the same name, and two different texts never have
names that any file system treats as equal, be it by case or by composed and decomposed accents.

========================  ===========================  ==============================================================
text                      name                         why
========================  ===========================  ==============================================================
``study-12``              ``study-12``                 plain
``VDXGURVX8P8O7QH2PO36``  ``VDXGURVX8P8O7QH2PO36``     plain: identifiers of this kind are written in capitals
``Weekly``                ``Weekly~29751324``          ``weekly`` is the plain one of those that differ only in case
``../../evil``            ``_.._.._evil~…``            every changed name has a digest of the complete text
``-rf``, ``.ssh``         ``_-rf~…``, ``_.ssh~…``      some programs treat such a beginning specially
========================  ===========================  ==============================================================
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from arena_async.errors import ConfigurationError, UnsafeNameError
from arena_async.protocol.files import RemoteFile
from arena_async.protocol.messages import printable

__all__ = [
    "STATE_DIRECTORY",
    "collision_suffix",
    "duplicate_key",
    "duplicate_path",
    "file_name_from_url",
    "fold",
    "is_below_root",
    "is_plain",
    "key_of_file",
    "layout_problem",
    "safe_component",
    "safe_name",
    "safe_path",
    "split_extension",
    "target_path",
]

#: The name of our own directory below a root.
STATE_DIRECTORY = ".arena-async"

#: Bytes of a component with its digest. Common file systems allow 255; a collision suffix of 9 bytes must still fit.
_MAXIMUM = 240

#: The separators of all systems, and what Windows rejects.
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions
_REFUSED = frozenset('<>:"/\\|?*')
_RESERVED = re.compile(
    r"(?:con|prn|aux|nul|conin\$|conout\$|clock\$|(?:com|lpt)[0-9\u00b9\u00b2\u00b3])[ ]*", re.IGNORECASE
)

#: Characters that are letters or marks by class and invisible: fillers, joiners, variation selectors.
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")

#: Common names that need no further check except for reserved names: a list may have a million of them.
_EVERYDAY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*")

_MARK = re.compile(r"~[0-9a-f]{8}(?=\.|\Z)", re.IGNORECASE)
_EXTENSION = re.compile(r"(?:\.[A-Za-z0-9]{1,8}){1,2}\Z")
_PLAIN_EXTENSION = re.compile(r"(?:\.[a-z0-9][a-z0-9_-]{0,15}){0,3}")
_WORD = re.compile(r"[A-Za-z0-9]+")
#: A capital, or a word that may be a lowercase identifier: a text without either has its usual case.
_UNUSUAL = re.compile(r"[A-Z]|(?<![a-z0-9])(?=[a-z0-9]{8})[0-9a-f]*[g-z]")


def target_path(file: RemoteFile, layout: str | None = None) -> str:
    """
    Return where a file lies below the root: the documented layout of its service, or a template of identifying fields.

    Each component is cleaned on its own after its fields were filled in, and no field can add a component.

    Raises:
        ConfigurationError: The template is wrong, or names a field that this file does not have.
        UnsafeNameError: No safe path can be made.
    """
    if layout is None:
        if file.as_named:
            return "/".join((*map(safe_name, file.parts), safe_name(file.stem + file.extension)))
        return str(safe_path(file.parts, file.stem, file.extension))
    problem = layout_problem(layout)
    if problem is not None:
        raise ConfigurationError(f"The layout {printable(layout)!r} cannot be used: {problem}.")
    fields = {"service": file.service, "stem": file.stem, "extension": file.extension, **file.fields}
    *folders, last = (_fill(component, fields, layout) for component in layout.split("/"))
    if file.extension and last.endswith(file.extension):
        return str(safe_path(folders, last[: -len(file.extension)], file.extension))
    return str(safe_path(folders, last))


def _fill(component: str, fields: Mapping[str, str], layout: str) -> str:
    """Return one component of a template with its fields filled in."""
    try:
        return component.format_map(fields)
    except KeyError as error:
        raise ConfigurationError(
            f"The layout {printable(layout)!r} names {{{error.args[0]}}}, which these files do not have; they have "
            f"{', '.join(sorted(fields))}."
        ) from None


def layout_problem(layout: str) -> str | None:
    """Return what is wrong with a layout template, or None: only plain ``{field}`` and text, below the folder."""
    try:
        pieces = list(string.Formatter().parse(layout))
    except ValueError as error:
        return f"it cannot be read: {error}"
    for _, field, form, conversion in pieces:
        if field is None:
            continue
        if form or conversion or not field.isidentifier():
            return f"{{{field}}} is more than the name of a field"
    folders = layout.split("/")
    if any(directory.strip() in ("", ".", "..") for directory in folders):
        return "it has an empty folder, or . or .. among them"
    if not any(field is not None for _, field, _, _ in pieces):
        return "it names no field, so that all files would go to one place"
    return None


def safe_component(text: str) -> str:
    """Return one path component for any text; its extension is kept at the end."""
    return text if is_plain(text) else _marked(*split_extension(_clean(text)), text)


def safe_name(text: str) -> str:
    """
    Return one path component that keeps the text wherever that is safe, including capital letters.

    Two of them may differ only in case, unlike those of :func:`safe_component`: callers compare the results of
    :func:`fold`.
    """
    return text if _is_everyday(text) or _is_safe(text) else _marked(*split_extension(_clean(text)), text)


def fold(path: str) -> str:
    """Return the same text for all paths that some file system treats as equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", path).casefold())


def is_below_root(path: str) -> bool:
    """Return whether a path with slashes names something below a root, and nothing of ours."""
    parts = path.split("/")
    return {"", ".", ".."}.isdisjoint(parts) and "\0" not in path and parts[0].casefold() != STATE_DIRECTORY


def safe_path(parts: Sequence[str], stem: str, extension: str = "") -> PurePosixPath:
    """
    Return a relative path of directories and a file name, each made safe on its own, which stays below any root.

    Args:
        parts: The directories, outermost first.
        stem: The file name without its extension.
        extension: With its dot, or "".

    Raises:
        UnsafeNameError: There are more components than file systems allow.
    """
    if len(parts) > 100:
        raise UnsafeNameError(f"The path has {len(parts)} directories; at most 100 are created. Shorten the layout.")
    return PurePosixPath(*map(safe_component, parts), _leaf(stem, extension))


def is_plain(text: str) -> bool:
    """Return whether a component is used unchanged: safe everywhere, and the only plain one of similar ones."""
    if _is_everyday(text):
        return not _UNUSUAL.search(text) or _WORD.sub(_usual_case, text) == text
    return (
        _is_safe(text)
        and _WORD.sub(_usual_case, text) == text
        and all(letter.isascii() or _one_case(letter) for letter in text)
    )


def _is_everyday(text: str) -> bool:
    """Return whether a text is a common name that needs no change, apart from case."""
    return (
        len(text) <= _MAXIMUM
        and _EVERYDAY.fullmatch(text) is not None
        and not _RESERVED.fullmatch(text.partition(".")[0])
    )


def _is_safe(text: str) -> bool:
    """Return whether a text needs no change on any system, apart from case."""
    size = len(text.encode("utf-8", "surrogatepass"))
    return 0 < size <= _MAXIMUM and _clean(text) == text and not _MARK.search(text)


def file_name_from_url(url: str) -> str:
    """
    Return the last path segment of a URL, decoded, without query and fragment; "" if it has none.

    It is external text and must be passed to :func:`safe_component` before it names a file.
    """
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    decoded = unquote(path.rsplit("/", 1)[-1], errors="replace")
    return re.split(r"[/\\]", decoded)[-1]


def collision_suffix(name: str) -> str:
    """Return ``~`` and 8 hexadecimal digits for a text: they distinguish files of one key, and changed names."""
    return f"~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def duplicate_path(path: str, name: str, extension: str) -> str:
    """Return the path of a row whose key a newer row of the listing has: a mark of its name before the extension."""
    plain = PurePosixPath(path)
    end = extension if extension and plain.name.endswith(extension) else plain.suffix
    stem = plain.name[: -len(end)] if end else plain.name
    return str(plain.with_name(f"{stem}{collision_suffix(name)}{end}"))


def duplicate_key(key: str, name: str) -> str:
    """Return the key under which such a row is remembered."""
    return f"{key}{collision_suffix(name)}"


def key_of_file(key: str) -> str:
    """Return the key of the file itself, for a key that :func:`duplicate_key` made."""
    return re.sub(r"~[0-9a-f]{8}\Z", "", key)


def _leaf(stem: str, extension: str) -> str:
    """
    Return the file name.

    A stem with a dot in it has a digest: ``a.csv`` with ``.gz`` and ``a`` with ``.csv.gz`` are two files.
    """
    plain_extension = _PLAIN_EXTENSION.fullmatch(extension) is not None
    if is_plain(stem) and plain_extension and "." not in stem and len((stem + extension).encode()) <= _MAXIMUM:
        return stem + extension
    base = _clean(stem)
    end = extension if plain_extension else _clean_extension(extension)
    if not extension:
        base, end = split_extension(base)
    return _marked(base, end, f"{stem}\0{extension}")


def _clean_extension(extension: str) -> str:
    """Return the usable part of an extension."""
    kept = re.sub(r"[^a-z0-9_.-]", "", extension.lower())
    end = re.search(r"(?:\.[a-z0-9][a-z0-9_-]{0,15}){1,3}\Z", kept)
    return end[0] if end else ""


def _marked(base: str, extension: str, text: str) -> str:
    """Append a digest of the complete text to what is left of it, which is cut to fit, between characters."""
    mark = collision_suffix(text)
    room = _MAXIMUM - len(mark) - len(extension)
    kept = base if base.strip("_ .") else "unnamed"
    cut = kept.encode()[:room].decode(errors="ignore").rstrip(" .")
    return f"{cut}{mark}{extension}"


def split_extension(name: str) -> tuple[str, str]:
    """Split a name before its extension, which may be double; a name that is only an extension has none."""
    end = _EXTENSION.search(name)
    if end is None or not name[: end.start()].strip("_ ."):
        return name, ""
    return name[: end.start()], end[0]


def _clean(text: str) -> str:
    """Replace what some system rejects, hides or misreads. An unchanged result means that the text is safe."""
    composed = unicodedata.normalize("NFC", text)
    shown = _UNSEEN.sub("_", "".join("_" if _is_refused(letter) else letter for letter in composed))
    # NFC again: a replaced character may have separated two others. Windows drops dots and spaces at the end.
    kept = unicodedata.normalize("NFC", shown).strip(" ").rstrip(" .")
    odd = kept[:1] in (".", "-", "~") or _RESERVED.fullmatch(kept.split(".", 1)[0])
    # A combining mark at the beginning would combine with the text before it.
    return f"_{kept}" if odd or (kept and unicodedata.category(kept[0]).startswith("M")) else kept


def _is_refused(letter: str) -> bool:
    """Return whether a name must not have a character: controls, format and bidi marks, unusual spaces, surrogates."""
    return letter in _REFUSED or (letter != " " and unicodedata.category(letter) in _REFUSED_CLASSES)


_REFUSED_CLASSES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})


def _one_case(letter: str) -> bool:
    """Return whether case folding leaves a non-ASCII letter unchanged."""
    return letter.casefold() == letter and letter.upper().lower() == letter


def _usual_case(word: re.Match[str]) -> str:
    """Return a word in its usual case: capitals for identifiers such as Arena guids, else lower case."""
    small = word[0].lower()
    is_identifier = len(small) >= 8 and len(re.findall(r"[0-9]+", small)) >= 2 and re.search(r"[g-z]", small)
    return small.upper() if is_identifier else small
