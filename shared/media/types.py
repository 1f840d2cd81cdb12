"""What a file is, told by its first bytes: never by its name, and never by what a server says."""

HEAD_BYTES = 64
"""How many bytes `sniff` wants to see."""

# The signatures that the formats themselves define; the first match counts.
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"\x1a\x45\xdf\xa3", "video/webm"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"OggS", "audio/ogg"),
)
# Four-letter forms inside containers whose own first bytes say nothing of what they carry.
RIFF_FORMS = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
AUDIO_BRANDS = {b"M4A ", b"M4B "}

EXTENSIONS = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "video/mp4": ".mp4",
    "video/quicktime": ".mov",
    "video/webm": ".webm",
    "audio/mpeg": ".mp3",
    "audio/aac": ".aac",
    "audio/mp4": ".m4a",
    "audio/wav": ".wav",
    "audio/flac": ".flac",
    "audio/ogg": ".ogg",
    "audio/webm": ".weba",
    "application/json": ".json",
    "application/x-subrip": ".srt",
    "text/vtt": ".vtt",
    "text/x-ssa": ".ass",
}


def sniff(head: bytes) -> str | None:
    """The media type of a file that begins with `head`, None for one we do not take."""
    for signature, media_type in SIGNATURES:
        if head.startswith(signature):
            return media_type
    if head[:4] == b"RIFF":
        return RIFF_FORMS.get(head[8:12])
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand == b"qt  ":
            return "video/quicktime"
        return "audio/mp4" if brand in AUDIO_BRANDS else "video/mp4"
    return _mpeg_audio(head)


def _mpeg_audio(head: bytes) -> str | None:
    """MPEG audio begins with eleven set bits; the layer bits tell AAC (ADTS, 00) from MP3 (layer III, 01)."""
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    layer = head[1] >> 1 & 3
    if layer == 0 and head[1] & 0xF0 == 0xF0:
        return "audio/aac"
    return "audio/mpeg" if layer == 1 else None
