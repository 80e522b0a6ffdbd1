"""The system calls that the filter knows: refused, absent, or looked at more closely.

Columns: x86_64 (asm/unistd_64.h), aarch64 (asm-generic/unistd.h).
"""

from corral_runner import kernel

_ABSENT = -1

#: Refused, with a notification.
_REFUSED_ROWS = {
    # other namespaces and file systems than the sandbox's
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "open_tree_attr": (467, 467),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    # the kernel itself
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "create_module": (174, _ABSENT),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "get_kernel_syms": (177, _ABSENT),
    "query_module": (178, _ABSENT),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "syslog": (103, 116),
    "acct": (163, 89),
    "iopl": (172, _ABSENT),
    "ioperm": (173, _ABSENT),
    "modify_ldt": (154, _ABSENT),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, _ABSENT),
    "ustat": (136, _ABSENT),
    "sysfs": (139, _ABSENT),
    "_sysctl": (156, _ABSENT),
    "vhangup": (153, 58),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    # the kernel's key rings are not namespaced in full
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # other processes' memory and descriptors
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "userfaultfd": (323, 282),
    # memory that no per-process accounting sees
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
}
#: Refused without a word: allocators, event loops and runtimes try these and go on without.
_QUIETLY_ABSENT_ROWS = {
    # its flags are behind a pointer that a filter cannot read; without it the C library falls back to clone
    "clone3": (435, 435),
    # how many may be made is one number for the whole machine (fs.aio-max-nr)
    "io_setup": (206, 0),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),  # unmapped pages of a memory file are in no process's accounts
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "get_mempolicy": (239, 236),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    "set_mempolicy_home_node": (450, 450),
}
#: Refused for some of their arguments; see ``seccomp``.
_EXAMINED_ROWS = {
    "clone": (56, 220),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "ioctl": (16, 29),
    "personality": (135, 92),
    "execve": (59, 221),
    "execveat": (322, 281),
    "mmap": (9, 222),
    # what a process may change of another of the same user: the runner's limits, its share of the CPU
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
}
#: The newest call of the table's day (file_setattr); later ones do not exist for a tool until looked at.
NEWEST = 469

_COLUMN = 0 if kernel.MACHINE == "x86_64" else 1


def _numbers(rows: "dict[str, tuple[int, int]]") -> "dict[str, int]":
    return {name: row[_COLUMN] for name, row in rows.items() if row[_COLUMN] != _ABSENT}


#: By name, this machine's numbers.
REFUSED = _numbers(_REFUSED_ROWS)
QUIETLY_ABSENT = _numbers(_QUIETLY_ABSENT_ROWS)
EXAMINED = _numbers(_EXAMINED_ROWS)
#: By number, what a notification is about.
NAMES = {number: name for name, number in (*REFUSED.items(), *EXAMINED.items())}
