"""What a file is, told by its first bytes: never by its name, and never by what a server says."""

HEAD_BYTES = 64
"""How many bytes `sniff` wants to see."""

# The signatures that the formats themselves define; the first match counts.
SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
)
EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/webp": ".webp"}


def sniff(head: bytes) -> str | None:
    """The media type of a file that begins with `head`, None for one we do not take."""
    for offset, signature, media_type in SIGNATURES:
        if head.startswith(signature, offset):
            return media_type
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return None
