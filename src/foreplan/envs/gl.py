"""Which OpenGL there is to draw with on a machine without a screen.

MuJoCo and dm_control read `MUJOCO_GL` once, when they are imported, and fail there if it names what does not exist; so
it is set here first, to what was seen to work. A value that the user has set stays, if it can be had.
"""

import ctypes
import os
import sys
from functools import cache

from foreplan.core.errors import RenderUnavailable, UsageError, unknown

EGL_PLATFORM_DEVICE_EXT = 0x313F
OTHERS = ("glfw", "on", "enable", "enabled", "true", "1", "off", "disable", "disabled", "false", "0")  # both know them
COMMON = ("glfw", "disabled")  # of these, what is worth naming
ADVICE = "install EGL (libegl1) or OSMesa (libosmesa6), or set MUJOCO_GL"


def configure() -> None:
    """Set `MUJOCO_GL`. Call it before MuJoCo or dm_control is imported; elsewhere than on Linux their default works.
    Raises UsageError where the user has set what is not known, or not on this machine."""
    if sys.platform != "linux":
        return
    wanted, there = os.environ.get("MUJOCO_GL"), {"egl": has_egl, "osmesa": has_osmesa}
    if not wanted:
        os.environ["MUJOCO_GL"] = next((name for name, has in there.items() if has()), "disabled")
    elif wanted not in (*there, *OTHERS):
        raise unknown("MUJOCO_GL", wanted, (*there, *OTHERS), hint=f"accepted: {', '.join([*there, *COMMON])}")
    elif wanted in there and not there[wanted]():
        here = [name for name, has in there.items() if has()]
        raise UsageError(f"MUJOCO_GL is {wanted}: not on this machine; accepted: {', '.join([*here, *COMMON])}")


def unavailable(name: str, error: Exception) -> RenderUnavailable:
    """One line that says why `name` cannot be drawn."""
    if isinstance(error, RenderUnavailable):
        return error
    why = " ".join(f"{type(error).__name__}: {error}".split())
    if os.environ.get("MUJOCO_GL") == "disabled":
        why = f"no OpenGL here; {ADVICE}"
    return RenderUnavailable(f"{name} cannot be rendered: {why}")


@cache
def has_osmesa() -> bool:
    return any(loads(library) for library in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"))


@cache
def has_egl() -> bool:
    """Whether some EGL device can be initialised, as MuJoCo will do it."""
    egl = loads("libEGL.so.1")
    if egl is None or not (loads("libOpenGL.so.0") or loads("libGL.so.1")):  # PyOpenGL needs one of these too
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    query, platform = (egl.eglGetProcAddress(name) for name in (b"eglQueryDevicesEXT", b"eglGetPlatformDisplayEXT"))
    if not query or not platform:
        return False
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    devices, count = (pointer * 16)(), integer()
    ctypes.CFUNCTYPE(integer, integer, pointer, pointer)(query)(16, devices, ctypes.byref(count))
    get_display = ctypes.CFUNCTYPE(pointer, integer, pointer, pointer)(platform)
    egl.eglInitialize.argtypes = [pointer, pointer, pointer]
    displays = (get_display(EGL_PLATFORM_DEVICE_EXT, device, None) for device in devices[: count.value])
    return any(egl.eglInitialize(display, None, None) for display in displays)


def loads(library: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(library)
    except OSError:
        return None
