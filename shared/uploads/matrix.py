"""How a picture is to be turned: the display matrix of ISO/IEC 14496-12 (8.2.2), and EXIF's orientation."""

import math
import struct

# EXIF 2.32, tag 0x0112: mirrored from left to right first, then turned clockwise by so many degrees.
EXIF = {
    1: (0, False),
    2: (0, True),
    3: (180, False),
    4: (180, True),
    5: (270, True),
    6: (90, False),
    7: (90, True),
    8: (270, False),
}


def turned(matrix: bytes) -> tuple[int, bool]:
    """Degrees clockwise (0, 90, 180 or 270), and whether it is mirrored from left to right before that."""
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return round(math.degrees(math.atan2(b, a)) / 90) % 4 * 90, mirrored


def shown(width: int, height: int, rotation: int) -> tuple[int, int]:
    """Width and height after turning."""
    return (height, width) if rotation % 180 else (width, height)
