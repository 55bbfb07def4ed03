"""The path of a control group names the unit and the container, and nobody gets a name that is not theirs to give."""
import pytest

from redirector.groups import Group, container, group, unit

ID = "3f4e" * 16
USER = "/user.slice/user-1000.slice/user@1000.service"


@pytest.mark.parametrize(("path", "expected"), [
    pytest.param("/", "", id="the root"),
    pytest.param("/system.slice/nginx.service", "nginx.service", id="a service"),
    pytest.param("/system.slice/system-getty.slice/getty@tty1.service", "getty@tty1.service", id="an instance"),
    pytest.param("/system.slice/nginx.service/workers", "nginx.service", id="below a service"),
    pytest.param("/user.slice/user-1000.slice/session-3.scope", "session-3.scope", id="a login"),
    pytest.param("/init.scope", "init.scope", id="systemd itself"),
    pytest.param(f"{USER}/app.slice/firefox.service", "user@1000.service/firefox.service", id="a user's service"),
    pytest.param(f"{USER}/init.scope", "user@1000.service/init.scope", id="a user's systemd"),
    pytest.param(USER, "user@1000.service", id="a user's manager"),
    pytest.param(f"{USER}/backup.service", "user@1000.service/backup.service", id="a user who plays a system service"),
    pytest.param(f"{USER}/user@0.service/backup.service", "user@1000.service/user@0.service", id="a user who plays root"),
    pytest.param("/system.slice/web.service/backup.service", "web.service", id="a service that plays another"),
    pytest.param("/mine/backup.service", "", id="no slice above it"),
    pytest.param("/system.slice", "", id="a slice"),
])
def test_the_unit(path, expected):
    assert unit(path) == expected


@pytest.mark.parametrize(("path", "expected"), [
    pytest.param(f"/docker/{ID}", f"docker:{ID}", id="docker, cgroupfs"),
    pytest.param(f"/system.slice/docker-{ID}.scope", f"docker:{ID}", id="docker, systemd"),
    pytest.param(f"/docker/{ID}/docker/{'0' * 64}", f"docker:{ID}", id="docker in docker: the outer"),
    pytest.param(f"/machine.slice/libpod-{ID}.scope/container", f"podman:{ID}", id="podman"),
    pytest.param(f"/machine.slice/libpod-conmon-{ID}.scope", "", id="podman's monitor"),
    pytest.param(f"{USER}/user.slice/libpod-{ID}.scope", f"user@1000.service/podman:{ID}", id="podman without root"),
    pytest.param(f"/kubepods/burstable/pod1-2/{ID}", f"kubernetes:{ID}", id="Kubernetes, cgroupfs"),
    pytest.param(f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", f"containerd:{ID}", id="containerd"),
    pytest.param(f"/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}",
                 f"containerd.service/containerd:{ID}", id="containerd, the drivers mixed"),
    pytest.param(f"/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope", f"crio:{ID}", id="CRI-O"),
    pytest.param("/lxc/web", "lxc:web", id="LXC 3"),
    pytest.param("/lxc.payload.web/system.slice/nginx.service", "lxc:web", id="LXC 4"),
    pytest.param("/machine.slice/machine-web.scope/payload", "machine:web", id="nspawn"),
    pytest.param(f"{USER}/docker/{ID}", f"user@1000.service/docker:{ID}", id="a user who plays docker"),
    pytest.param(f"/system.slice/web.service/docker-{ID}.scope", f"web.service/docker:{ID}", id="a service that does"),
    pytest.param(f"/system.slice/{ID}", "", id="an id alone"),
    pytest.param("/docker/buildx", "", id="docker without an id"),
    pytest.param("/system.slice/docker.service", "", id="the docker daemon"),
    pytest.param("/", "", id="the root"),
])
def test_the_container(path, expected):
    assert container(path) == expected


@pytest.mark.parametrize(("lines", "expected"), [
    pytest.param("0::/user.slice\n", Group("/user.slice", "", ""), id="unified"),
    pytest.param("4:pids:/user/ann\n0::/user.slice\n", Group("/user.slice", "", ""), id="hybrid"),
    pytest.param("1:name=systemd:/system.slice/a.service\n0::/\n", Group("/", "a.service", ""), id="hybrid, v1 in use"),
    pytest.param(f"9:pids:/docker/{ID}\n1:name=systemd:/\n0::/\n", Group("/", "", f"docker:{ID}"), id="hybrid, docker"),
    pytest.param("9:pids:/system.slice/b.service\n1:name=systemd:/\n", Group("", "", ""), id="units are systemd's"),
    pytest.param("4:pids:/user/\r0::/system.slice\n0::/user.slice\n", Group("/user.slice", "", ""),
                 id="a name that plays another line"),
    pytest.param("0::/a\u2028b\n", Group("/a\u2028b", "", ""), id="a name with an end of line"),
    pytest.param("0::/a:b\n", Group("/a:b", "", ""), id="a name with a colon"),
    pytest.param("4:pids:/\n", Group("", "", ""), id="version 1 alone"),
    pytest.param("", Group("", "", ""), id="not ours to see"),
])
def test_the_lines_of_a_process(lines, expected):
    assert group(lines.encode()) == expected
