"""What a container is made of, compared whole."""

import json
from dataclasses import replace
from pathlib import Path

from corral.api import DEFAULT_LIMITS, ResolvedLimits
from corral.sandbox.docker.container import EngineLimits, Program, Room, program_container, runner_container
from corral.sandbox.profile import DEFAULT_PROFILE, Profile

MIB = 1 << 20
LIMITS = EngineLimits(memory_bytes=700 * MIB, processes=70, cpu=1.25)
ROOM = Room("corral/sandbox:test", LIMITS, 64 * MIB, labels={"dev.corral.owner": "me"})
TMPFS = "rw,exec,nosuid,nodev,size=67108864,nr_inodes=16384,mode=0700,uid=65532,gid=65532"


def test_M12_the_whole_container() -> None:
    body = runner_container(ROOM, DEFAULT_PROFILE, ("json",))
    [settings] = body.pop("Cmd")
    assert json.loads(settings) == {
        "standardStreams": True,
        "preload": ["json"],
        "off": [],
        "weakened": [],
        "outer": ["pidns", "mountns", "netns", "ipcns", "utsns", "cgroupns"],
        "fileSystems": ["/workspace", "/tmp", "/dev/shm"],
        "boundWorkspace": False,
    }
    assert body == {
        "Image": "corral/sandbox:test",
        "User": "65532:65532",
        "WorkingDir": "/workspace",
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "StopSignal": "SIGKILL",
        "Healthcheck": {"Test": ["NONE"]},
        "Hostname": "sandbox",
        "Labels": {"dev.corral.owner": "me"},
        "HostConfig": {
            "NetworkMode": "none",
            "PidMode": "",
            "IpcMode": "private",
            "UTSMode": "",
            "CgroupnsMode": "private",
            "ReadonlyRootfs": True,
            "Privileged": False,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": 700 * MIB,
            "MemorySwap": 700 * MIB,
            "PidsLimit": 70,
            "NanoCpus": 1_250_000_000,
            "OomKillDisable": False,
            "Ulimits": [
                {"Name": name, "Soft": value, "Hard": value}
                for name, value in (
                    ("nofile", 4096),
                    ("core", 0),
                    ("memlock", 65536),
                    ("msgqueue", 0),
                    ("rtprio", 0),
                    ("nice", 0),
                )
            ],
            "Init": False,
            "AutoRemove": True,
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "none"},
            "Mounts": [],
            "Tmpfs": {"/workspace": TMPFS, "/tmp": TMPFS, "/dev/shm": TMPFS},
        },
    }


def test_a_bound_workspace_is_its_owner_s_and_has_no_file_system_of_its_own() -> None:
    room = replace(ROOM, workspace=Path("/home/me/work"), workspace_read_only=True, user=(1000, 100))
    body = runner_container(room, DEFAULT_PROFILE)
    assert body["User"] == "1000:100"
    assert body["HostConfig"]["Mounts"] == [
        {
            "Type": "bind",
            "Source": "/home/me/work",
            "Target": "/workspace",
            "ReadOnly": True,
            "BindOptions": {"Propagation": "rprivate"},
        }
    ]
    assert set(body["HostConfig"]["Tmpfs"]) == {"/tmp", "/dev/shm"}
    assert "uid=1000,gid=100" in body["HostConfig"]["Tmpfs"]["/tmp"]


def test_a_weaker_profile_weakens_the_container_and_says_so() -> None:
    profile = Profile(frozenset({"landlock"}), frozenset({"net", "pid", "ipc", "uts", "cgroup", "system"}))
    body = runner_container(replace(ROOM, weakened=profile.weakened), profile)
    settings = json.loads(body["Cmd"][0])
    host = body["HostConfig"]
    assert (host["NetworkMode"], host["PidMode"], host["IpcMode"], host["UTSMode"]) == ("host",) * 4
    assert (host["CgroupnsMode"], host["ReadonlyRootfs"]) == ("host", False)
    assert (settings["off"], settings["outer"]) == (["landlock"], [])
    assert settings["weakened"] == list(profile.weakened)


def test_the_engine_s_walls_stand_a_little_above_the_task_s_limits() -> None:
    limits = replace(ResolvedLimits.of(DEFAULT_LIMITS), memory_bytes=100 * MIB, processes=16, cpu=2.0)
    assert EngineLimits.of(limits, 50 * MIB, cores=8) == EngineLimits(246 * MIB, 22, 2.5)
    assert EngineLimits.of(limits, 50 * MIB, cores=2).cpu == 2.0  # Docker refuses more than there is


def test_a_program_has_its_limits_from_the_engine_alone() -> None:
    program = Program(("/bin/run", "a b"), {"K": "v"}, False, 5 * MIB, 100, 2.5)
    body = program_container(ROOM, DEFAULT_PROFILE, program)
    host = body["HostConfig"]
    assert (body["Entrypoint"], body["Cmd"], body["Env"]) == (
        ["/bin/run"],
        ["a b"],
        ["HOME=/workspace", "K=v"],
    )
    assert (host["AutoRemove"], host["Init"]) == (False, True)
    assert host["Tmpfs"]["/workspace"].startswith("ro,")
    ulimits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in host["Ulimits"]}
    assert (ulimits["nofile"], ulimits["fsize"], ulimits["cpu"]) == (
        (100, 100),
        (5 * MIB, 5 * MIB),
        (3, 4),
    )
