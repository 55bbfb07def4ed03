"""`lockgate quotas`: what a proxy has counted, seen from outside."""

import json

from addons.usage import Usage
from proxy import cli


def test_use_is_shown(tmp_path, capsys):
    assert cli.main(["quotas", "--state", str(tmp_path)]) == 0
    assert "no quota" in capsys.readouterr().out
    folder = tmp_path / "filter-state/quotas"
    folder.mkdir(parents=True)
    use = Usage(folder)
    use.limits("daily", 10, 0, "day")
    use.add("daily", "2026-01-01", "/bin/a a.example", 3, 4096)
    use.close()
    assert cli.main(["quotas", "--state", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "daily, 2026-01-01, /bin/a a.example: 3 of 10 requests, 4,096 bytes\n"
    assert cli.main(["quotas", "--state", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["max_requests"] == 10
    (folder / "use.sqlite").write_bytes(b"no database" * 100)
    assert cli.main(["quotas", "--state", str(tmp_path)]) == 2
