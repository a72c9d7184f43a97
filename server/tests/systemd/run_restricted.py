#!/usr/bin/env python3
"""Runs a command under the restrictions of a unit file that need no systemd as process 1.

These are its system call filter, address families, memory and capabilities. A system call outside the filter ends the
process with SIGSYS, as under systemd; an address family outside the list is EAFNOSUPPORT.

usage: run_restricted.py UNIT COMMAND [ARGUMENT...]
"""

import ctypes
import errno
import os
import socket
import subprocess
import sys

# seccomp.h of libseccomp, sys/mman.h and linux/prctl.h.
KILL_PROCESS, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38


class Comparison(ctypes.Structure):
    """A condition on an argument (struct scmp_arg_cmp)."""

    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


libc = ctypes.CDLL(None, use_errno=True)
seccomp = ctypes.CDLL("libseccomp.so.2")
seccomp.seccomp_init.restype = ctypes.c_void_p


def settings(unit, key):
    """The values of a key, in order."""
    with open(unit, encoding="utf-8") as lines:
        return [line.strip().split("=", 1)[1] for line in lines if line.startswith(key + "=")]


def expanded(names):
    """The system calls of a list with groups."""
    calls = set()
    for name in names:
        if name.startswith("@"):
            command = ["systemd-analyze", "syscall-filter", name]
            lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[1:]
            calls |= expanded(line.strip() for line in lines if line.strip() and not line.strip().startswith("#"))
        else:
            calls.add(name)
    return calls


def allowed_calls(unit):
    """The first list allows, and a list that begins with ~ removes."""
    allowed = set()
    for value in settings(unit, "SystemCallFilter"):
        if value.startswith("~"):
            allowed -= expanded(value[1:].split())
        else:
            allowed |= expanded(value.split())
    return allowed


def add_rule(context, action, call, *comparisons):
    """Adds a rule; a system call of another architecture has none."""
    number = seccomp.seccomp_syscall_resolve_name(call.encode())
    array = (Comparison * len(comparisons))(*comparisons)
    if number >= 0 and seccomp.seccomp_rule_add_array(
        ctypes.c_void_p(context), ctypes.c_uint32(action), number, len(comparisons), array
    ):
        sys.exit(f"no rule for {call}")


def load(context):
    """Restricts this process, and its program after execve."""
    if seccomp.seccomp_load(ctypes.c_void_p(context)):
        sys.exit("the kernel refuses the filter")


def main(unit, command):
    """Applies the restrictions, and becomes the command."""
    calls = allowed_calls(unit)
    families = [getattr(socket, name) for value in settings(unit, "RestrictAddressFamilies") for name in value.split()]
    if not calls or not families:
        sys.exit(f"{unit} has no SystemCallFilter or no RestrictAddressFamilies")
    if settings(unit, "CapabilityBoundingSet") == [""] and os.geteuid() == 0:
        capability = 0
        while libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:
            capability += 1
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)

    refused = seccomp.seccomp_init(ctypes.c_uint32(ALLOW))
    for family in range(64):
        if family not in families:
            add_rule(refused, ERRNO | errno.EAFNOSUPPORT, "socket", Comparison(0, EQUAL, family))
    if settings(unit, "MemoryDenyWriteExecute") == ["yes"]:
        both = PROT_WRITE | PROT_EXEC
        add_rule(refused, ERRNO | errno.EPERM, "mmap", Comparison(2, MASKED_EQUAL, both, both))
        add_rule(refused, ERRNO | errno.EPERM, "mprotect", Comparison(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC))
    load(refused)

    # Last: the system call that loads a filter is not in every list.
    filtered = seccomp.seccomp_init(ctypes.c_uint32(KILL_PROCESS))
    for call in sorted(calls):
        add_rule(filtered, ALLOW, call)
    load(filtered)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
