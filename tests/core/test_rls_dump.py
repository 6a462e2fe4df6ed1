"""The rules in force, as people see them."""

from __future__ import annotations

from pathlib import Path

import yaml

from silence_gateway.app.config.rls_files import read_rules
from silence_gateway.core.rls_dump import as_text, as_values

FILE = """
domain: d
descriptors:
- key: t
  value: a*
  share_threshold: true
  value_to_metric: true
  descriptors:
  - key: user
    rate_limit:
      unit: day
      requests_per_unit: 5
      unit_multiplier: 9
      name: per_user
      replaces:
      - name: other
    shadow_mode: true
    detailed_metric: true
    metadata: {owner: {team: a}}
- key: free
  rate_limit:
    unlimited: true
  quota_mode: true
- key: other
  rate_limit:
    unit: day
    requests_per_unit: 0
    name: other
- key: nothing
"""


def test_a_line_for_each_rule() -> None:
    rules = read_rules([(Path("f"), FILE.encode())])

    assert as_text(rules).splitlines() == [
        "d.t_a*.user: unit=DAY requests_per_unit=5, shadow_mode: true, quota_mode: false, unit_multiplier: 9",
        "d.free: unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: true, unlimited: true",
        "d.other: unit=DAY requests_per_unit=0, shadow_mode: false, quota_mode: false",
    ]


def test_the_form_of_the_file() -> None:
    rules = read_rules([(Path("f"), FILE.encode())])

    [domain] = as_values(rules)["domains"]
    assert domain == yaml.safe_load(FILE)
    assert read_rules([(Path("f"), yaml.safe_dump(domain).encode())]).warnings == ()
