"""The zip archive of a torch file: a list of members, which lie in it uncompressed, one after the other.

Nothing is unpacked. The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

import mmap
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nextok.errors import ModelFileError
from nextok.formats.files import AGAIN, quote

END = struct.Struct("<4s4HIIH")
"""The record at the end of an archive: signature, four numbers, size and start of the list, length of a comment."""
WIDE_END = struct.Struct("<4sQ2H2I4Q")
"""The same record with numbers of 64 bits."""
LOCATOR = struct.Struct("<4sIQI")
"""The record that tells where the record of 64 bits is."""
HEADER = struct.Struct("<4s5H3I2H")
"""The record before each member; its last two numbers are the lengths of the name and of an extra field, in bytes."""
MOST_MEMBERS = 65_536
"""Largest number of members of an archive."""
MOST_LISTED_BYTES = 8 << 20
"""Largest size of the list of members, in bytes."""
ENCRYPTED = 1
"""The flag of an encrypted member."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where the bytes of a member lie in the file."""

    start: int
    size: int


def read_members(path: Path, buffer: mmap.mmap) -> Mapping[str, Member]:
    """The members by name, less the folder that they all lie in; ModelFileError for what torch never writes."""
    list_start = _find_list(buffer)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except Exception as error:  # the library raises many classes for damaged files
        raise ModelFileError(f"its list of members cannot be read ({quote(str(error))}): {AGAIN}") from None
    if len(infos) > MOST_MEMBERS:
        raise ModelFileError(f"it has {len(infos):,} members, more than {MOST_MEMBERS:,}: {AGAIN}")
    folder = infos[0].filename.partition("/")[0] if infos else ""
    members: dict[str, Member] = {}
    end = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.filename != info.orig_filename:  # an extra field can give a second name, which torch does not read
            raise ModelFileError(f"its member {quote(info.orig_filename)} has two names: {AGAIN}")
        name = info.filename.removeprefix(f"{folder}/")
        if name == info.filename or name in members:
            raise ModelFileError(f"its members are not one folder, see {quote(info.filename)}: {AGAIN}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ModelFileError(f"its member {quote(name)} is compressed, which torch never does: save it again")
        if info.flag_bits & ENCRYPTED:
            raise ModelFileError(f"its member {quote(name)} is encrypted: save it again without a password")
        start = _find_data(buffer, info)
        if not end <= info.header_offset < start <= start + info.file_size <= list_start:
            raise ModelFileError(f"its member {quote(name)} overlaps another one, or the end of the file: {AGAIN}")
        end = start + info.file_size
        members[name] = Member(start, info.file_size)
    return members


def _find_list(buffer: mmap.mmap) -> int:
    """Where the list of members begins, which must reach to the end records, and these to the end of the file."""
    if buffer[:2] != b"PK":
        raise ModelFileError(
            "it is no zip archive, as torch has written since 1.6: if you trust it, read it with torch.load and save "
            "its state dict again"
        )
    at = len(buffer) - END.size
    if at < 0 or buffer[at : at + 4] != b"PK\5\6":
        raise ModelFileError("it does not end as a zip archive does: it is truncated, download it again")
    size, start, comment = map(int, END.unpack_from(buffer, at)[5:])
    locator = at - LOCATOR.size
    if locator >= WIDE_END.size and buffer[locator : locator + 4] == b"PK\6\7":
        at = locator - WIDE_END.size
        if LOCATOR.unpack_from(buffer, locator)[2] != at or buffer[at : at + 4] != b"PK\6\6":
            raise ModelFileError(f"its end records contradict each other: {AGAIN}")
        size, start = map(int, WIDE_END.unpack_from(buffer, at)[8:])
    if comment or size > MOST_LISTED_BYTES or start + size != at:
        raise ModelFileError(f"its list of members is too long, or not where it should be: {AGAIN}")
    return start


def _find_data(buffer: mmap.mmap, info: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin, after a header that must give the name that the list gives."""
    at = info.header_offset
    header = buffer[at : at + HEADER.size]
    if len(header) < HEADER.size or header[:4] != b"PK\3\4":
        raise ModelFileError(f"its member {quote(info.filename)} is not where the list says: {AGAIN}")
    *_, name_length, extra_length = HEADER.unpack(header)
    at += HEADER.size
    if buffer[at : at + name_length] != info.orig_filename.encode():
        raise ModelFileError(f"its member {quote(info.filename)} goes by another name in its place: {AGAIN}")
    return int(at + name_length + extra_length)
