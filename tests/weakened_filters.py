"""The promises of the filters, each with an edit that breaks it and tests that must notice."""

from tests.weakened import weaken

BODY, LEAKS, TREE, BUDGET = "proxy/body.py", "addons/leaks.py", "addons/views/tree.py", "addons/views/budget.py"
VIEWS, HEARD = "proxy/test_body_views.py::test_", "addons/test_leaks.py::test_"

FILTERS = (
    weaken("leaks: what a view hides leaves before it is judged",
           (BODY, "return clear if self._tree is None else min(clear, self._before + self._ready(self._tree))", "return clear"),
           tests=[f"{VIEWS}a_value_that_is_written_long_never_leaves"]),
    weaken("leaks: what cannot be read passes unsaid",
           (BODY, "            self._ears.unscannable(tree.root, reason)\n        return not reason", "            pass\n        return not reason"),
           tests=[f"{VIEWS}unscannable[answer0-what pins"]),
    weaken("leaks: any time to read", (BODY, "if self._spent > allowed", "if False"),
           tests=[f"{VIEWS}what_takes_too_long_in_all"]),
    weaken("leaks: unread uploads pass", (LEAKS, 'unscannable: str = "block"', 'unscannable: str = "allow"'),
           tests=[f"{HEARD}what_cannot_be_read"]),
    weaken("leaks: hosts by their ends", (LEAKS, "covers(self.hosts_allowed, asked(flow))", "asked(flow).endswith(self.hosts_allowed)"),
           tests=[f"{HEARD}which_messages_are_searched[one whose name ends so may]"]),
    weaken("views: any depth", ("addons/views/near.py", "text_depth >= MAX_TEXT_DEPTH", "text_depth >= 99"),
           tests=["addons/views/test_tree.py::test_nesting_ends_with_a_reason"]),
    weaken("views: names forge paths", (BUDGET, ' and ">" not in step:', ':'),
           tests=["addons/views/test_tree.py::test_names_from_outside_cannot_forge_a_path"]),
    weaken("filters outside: their samples are believed", ("addons/external.py", 'str(said.get("sample", ""))[:SAMPLE]', 'str(said.get("sample", ""))'),
           tests=["addons/test_external.py::test_no_value_of_a_finding_comes_through"]),
    weaken("filters outside: an odd answer is none", ("addons/external.py", 'raise ValueError(f"no action {action!r}"[:80])', "return number, None"),
           tests=["addons/test_external.py::test_failures_are_raised_and_the_next_message_starts_it_anew_after_a_pause[no such action]"]),
    weaken("ICAP: a changed body is the same", ("addons/icap.py", "return result.size == len(data) and", "return True or"),
           tests=["addons/test_icap.py::test_odd_answers[another body]"]),
    weaken("ICAP: errors pass", ("addons/icap.py", 'raise IcapError(f"the ICAP server failed', 'return None and IcapError(f"the ICAP server failed'),
           tests=["addons/test_icap.py::test_odd_answers[500]"]),
)
