"""MuJoCo's warnings: in the log, where dm_control has them too, and not in a file wherever the user stands."""

import ctypes
import logging

import mujoco

LOGGER = "absl"  # dm_control's


def listen() -> None:
    """Call it before a model is compiled."""
    logging.getLogger(LOGGER).addFilter(mendable)
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(_tell)


def mendable(record: logging.LogRecord) -> bool:
    """False for what is said of every cheetah that Gymnasium and dm_control ship."""
    return "'settotalmass' is deprecated" not in record.getMessage()


@ctypes.CFUNCTYPE(None, ctypes.c_char_p)
def _tell(message: bytes) -> None:
    logging.getLogger(LOGGER).warning(message.decode())
