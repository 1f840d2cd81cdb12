"""Things to listen to, and the whole of what may be done with them by who has one credit."""

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import httpx
import imageio_ffmpeg

from tests.e2e.uploading import uploaded
from tests.sounds import nothing, tone, wav
from tests.support import Studio

FILM_S = 9.0
GAPS = ((2.0, 3.5), (6.0, 7.0))
"""Where the film is quiet."""
SRT = "1\n00:00:01,000 --> 00:00:02,000\nWaves roll in.\n\n2\n00:00:05,000 --> 00:00:06,500\nGulls.\n"


@cache
def film() -> bytes:
    """Nine seconds of picture under a tone with two gaps."""
    samples = tone(2) + nothing(1.5) + tone(2.5) + nothing(1) + tone(2)
    with tempfile.TemporaryDirectory() as folder:
        command = (
            f"{imageio_ffmpeg.get_ffmpeg_exe()} -v error -i - -f lavfi"
            f" -i testsrc2=size=160x90:rate=15:duration={FILM_S}"
            " -map 1:v -map 0:a -threads 1 -c:v libx264 -preset ultrafast -g 15 -pix_fmt yuv420p -c:a aac"
            f" {folder}/film.mp4"
        )
        subprocess.run(command.split(), input=wav(samples).getvalue(), capture_output=True, check=True, timeout=60)
        return Path(folder, "film.mp4").read_bytes()


def listened_to(model: Studio) -> None:
    """A project too large for an item loses its silence, by a request that is repeated when all credits are spent, and
    goes into the files of other programs."""
    studio = Studio(model.stack, f"{model.account}-one-credit")
    studio.grant(1)
    sound = uploaded(studio, wav(tone(1) + nothing(1) + tone(1)).getvalue(), "audio/wav")["asset"]["id"]
    captions = uploaded(studio, SRT.encode(), "application/x-subrip")["asset"]["id"]
    clip = {"id": "a", "asset": sound, "start": 0, "out": 3}
    texts = [{"text": "x" * 5000, "start": number, "duration": 1} for number in range(61)]
    tracks = [{"type": "audio", "role": "voice", "clips": [clip]}, {"type": "text", "clips": texts}]
    document = {"title": "x", "timeline": {"tracks": tracks, "captions": {"asset": captions}}}
    path = f"projects/{studio.http.post('/projects', json=document).json()['id']}"
    asked = {"clip": "a", "apply": True}
    first = studio.wait(studio.post(f"{path}/silence-cuts", asked, key="once")["id"])
    assert first["status"] == "succeeded", first
    again = studio.post(f"{path}/silence-cuts", asked, key="once")
    assert again["id"] == first["id"]
    assert httpx.get(again["assets"][0]["url"], trust_env=False).status_code == 200
    for name in ("export.otio", "captions"):
        assert studio.http.get(f"/{path}/{name}").status_code == 200
    studio.check_invariants()
    studio.close()
