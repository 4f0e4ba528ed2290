"""Pictures of an environment while it is played, and videos of them."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from foreplan.core.errors import RenderUnavailable
from foreplan.core.types import VectorEnv


@dataclass
class Camera:
    """Looks at the first environment. Where that cannot be drawn there are no `frames`, for the reason in `why`."""

    frames: list[np.ndarray] = field(default_factory=list)  # uint8 [height, width, 3]
    why: str = ""

    def shoot(self, env: VectorEnv) -> None:
        if not self.why:
            try:
                self.frames.append(env.render(0))
            except RenderUnavailable as error:
                self.frames, self.why = [], str(error)


def write_video(path: Path, frames: list[np.ndarray], fps: int = 30) -> None:
    """An mp4 that browsers play, from frames uint8 [height, width, 3]; an odd last row or column is left out."""
    height, width = (size // 2 * 2 for size in frames[0].shape[:2])
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "-"]
    coded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *raw, *coded, str(path)]
    pixels = b"".join(np.ascontiguousarray(frame[:height, :width]).tobytes() for frame in frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(command, input=pixels, check=True)
