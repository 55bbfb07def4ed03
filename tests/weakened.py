"""The promises of the proxy and the redirector, each with an edit that breaks it and tests that must notice."""

from collections.abc import Sequence
from typing import NamedTuple

#: A file, what stands in it once, and what comes in its place.
type Edit = tuple[str, str, str]


class Weakening(NamedTuple):
    """Of each of `tests`, which are beginnings of ids, a case must fail."""

    name: str
    edits: Sequence[Edit]
    tests: Sequence[str]


def weaken(name: str, *edits: Edit, tests: Sequence[str]) -> Weakening:
    return Weakening(name, edits, [f"tests/{test}" for test in tests])


UPSTREAM, REFUSED = "proxy/upstream.py", "proxy/test_upstream.py::test_what_is_refused"
VERIFY, WEAKNESSES, REVOCATION = "proxy/verify.py", "proxy/weaknesses.py", "proxy/revocation.py"
FACE, LAYERS, MIRROR, TICKETS = "proxy/tlsface.py", "proxy/tlslayers.py", "proxy/mirror.py", "proxy/resumption.py"
DOOR = "proxy/explicit.py"
BYPASS, PINS, HOSTS, NORMAL = "proxy/bypass.py", "proxy/pins.py", "proxy/hosts.py", "proxy/normal.py"
SCHEMA, HIDES = "proxy/schema.py", "proxy/test_schema.py::test_what_hides_names_has_its_verdict"
ACTIVATED, ANSWERS = "redirector/activated.py", "proxy/test_disclosure.py::test_"
RESUMES = "proxy/test_resumption_faces.py::test_faces_resume_for_their_owner_only"
OWN = "proxy/test_weakenings.py::"
CACHED = f"{OWN}test_a_good_verdict_is_for_that_name_and_that_chain"
FRAMING, LEARNED = "proxy/test_framing.py::test_refused", "proxy/test_bypass_worker.py::"

WEAKENINGS = (
    # -- who an origin is
    weaken("no hostname check",
           (VERIFY, "done = _lib.X509_VERIFY_PARAM_set1_host(param, host, len(host))", "done = 1"),
           (VERIFY, "build_server_verifier(name)", "build_server_verifier(path[0].extensions.get_extension_for_class("
                                                   "x509.SubjectAlternativeName).value[0])"),
           tests=[f"{REFUSED}[another name]", "tls/test_verdicts.py::test_no_verdict_is_kept_beyond_its_certificate[another name]"]),
    weaken("the common name counts", (VERIFY, "0x4 | 0x20", "0x4"),
           tests=["proxy/test_verify.py::test_openssl_on_one_path[common name]"]),
    weaken("half a wildcard counts", (VERIFY, "0x4 | 0x20", "0x20"), tests=[f"{OWN}test_half_a_wildcard_is_none_to_openssl"]),
    weaken("wildcards of registries", (WEAKNESSES, 'if f"*.{above}" in hosts and is_public_suffix(above)', "if False"),
           tests=["proxy/test_upstream.py::test_names_that_do_not_match[wildcard of a registry]"]),
    weaken("any issuer", (UPSTREAM, "state.leaf = state.leaf or _presented(connection)[0]", "return True"),
           tests=[f"{REFUSED}[unknown root]", f"{REFUSED}[expired]", "tls/test_verdicts.py::test_an_error_is_told_within_tls"]),
    weaken("our own root vouches for origins", ("proxy/paths.py", "in _readable(pem) if each != without", "in _readable(pem)"),
           tests=["proxy/test_tlsface.py::test_our_own_root_vouches_for_no_origin[the system's bundle]"]),
    weaken("the second verifier is off", (UPSTREAM, "return self._second(connection, state, _openssl_path(store))", "return True"),
           tests=[f"{REFUSED}[constraints not critical]", f"{REFUSED}[names that only OpenSSL can read]"]),
    weaken("pyca/cryptography is not asked", (VERIFY, "_profile(path, name, self.clock())", "pass"),
           tests=[f"{OWN}test_the_second_has_an_opinion_of_its_own"]),
    weaken("a repaired path is not OpenSSL's", (VERIFY, "if openssl_accepts(path, name, self.clock()) and not", "if not"),
           tests=["proxy/test_verify.py::test_one_verifier_s_word_is_not_both_s"]),
    weaken("no path is found anew", (VERIFY, "for path in paths(presented, self.roots)", "for path in ()"),
           tests=["proxy/test_upstream_paths.py::test_an_unusable_twin_does_no_harm"]),
    weaken("longer chains", ("proxy/paths.py", "MAX_CHAIN = 12", "MAX_CHAIN = 40"), tests=[f"{REFUSED}[fourteen authorities]"]),
    weaken("keys on P-224", (WEAKNESSES, "MIN_EC = 256", "MIN_EC = 224"), tests=[f"{REFUSED}[P-224]"]),
    weaken("signatures with SHA-224", (WEAKNESSES, "STRONG = (", "STRONG = (hashes.SHA224, "), tests=[f"{REFUSED}[SHA-224]"]),
    weaken("known-bad roots", (WEAKNESSES, "if product := KNOWN_BAD.get(spki(certificate))", "if product := None"),
           tests=["proxy/test_upstream.py::test_known_bad_whatever_is_trusted"]),
    weaken("a verdict outlives its certificate",
           (VERIFY, "until = min(self.clock() + GOOD_FOR, *(each.not_valid_after_utc for each in path))",
            "until = self.clock() + GOOD_FOR"),
           tests=["proxy/test_verify.py::test_good_ones_are_remembered[not longer than the certificate]"]),
    weaken("a verdict for another chain", (VERIFY, "digest.update(der)", "digest.update(der[:1])"), tests=[f"{CACHED}[chain]"]),
    weaken("a verdict for another name", (VERIFY, "return kind, digest.digest(), name", "return kind, digest.digest(), 0"),
           tests=[f"{CACHED}[name]"]),
    weaken("a fault of ours lets origins in", (UPSTREAM, 'good = state.excuses(broken(Rule.MALFORMED, "verifying it failed"))',
                                               "good = True"),
           tests=["proxy/test_upstream.py::test_a_fault_of_ours_lets_nobody_in"]),
    weaken("an exception is for every rule", (UPSTREAM, "return rule in self.rules - ABSOLUTE and", "return bool(self.rules) and"),
           tests=["proxy/test_upstream_paths.py::test_exemptions[another rule]",
                  "proxy/test_upstream_paths.py::test_exemptions[not what is unreadable]"]),
    weaken("exceptions are not recorded", (FACE, "for broken in upstream.tolerated(data.ssl_conn)", "for broken in ()"),
           tests=["proxy/test_origins.py::test_an_exception_is_for_its_host_and_recorded"]),
    # -- has it been revoked
    weaken("revocation ignored", (REVOCATION, "if isinstance(status, Status) and status.revoked", "if False"),
           tests=["proxy/test_revocation.py::test_asked_once[revoked-ocsp", "proxy/test_revocation.py::test_asked_once[revoked-crl",
                  "proxy/test_revocation_worker.py::test_stock_settings[the responder]"]),
    weaken("a revoked staple ignored", (REVOCATION, "return _revoked(leaf, status) if status.revoked else None", "return None"),
           tests=["proxy/test_staples.py::test_staples[stapled-revoked]"]),
    weaken("must-staple ignored", (REVOCATION, "if _must_staple(leaf)", "if False"),
           tests=["proxy/test_staples.py::test_staples[check-none where one is demanded]"]),
    weaken("anybody signs for a CA", ("proxy/ocsp.py", "check_signature(signer.public_key(), answer.signature, "
                                      "answer.tbs_response_bytes, answer.signature_hash_algorithm)", "pass"),
           tests=["proxy/test_ocsp.py"]),
    weaken("silence is taken for good under `require`", (REVOCATION, 'if mode == "require"', "if False"),
           tests=["proxy/test_revocation.py::test_silence_is_accepted_and_said_or_refused[hangs-ocsp]"]),
    # -- before the verdict, and after it
    weaken("a refusal after the handshake comes to nothing",
           (LAYERS, "if self.tls is not None and (refused := refusal(self.tls))", "if self.tls is None and (refused := None)"),
           tests=["proxy/test_revocation_worker.py::test_stock_settings[the responder]"]),
    weaken("a refused origin chooses names", (LAYERS, "self.conn.certificate_list = ()", "pass"),
           tests=["proxy/test_revocation_worker.py::test_a_revoked_origin_chooses_no_names"]),
    weaken("an alert swallowed, ours", (LAYERS, "yield from self.tls_interact()\n        yield from super().on_handshake_error",
                                        "pass\n        yield from super().on_handshake_error"),
           tests=["tls/test_origins.py::test_bad_manners[Finished corrupted]"]),
    weaken("an alert swallowed, the origin's", (LAYERS, "failure = _words(error)", "break"),
           tests=["tls/test_origins.py::test_an_origin_that_wants_a_certificate[0-0.1-TLS 1.3]"]),
    weaken("truncation hidden", (LAYERS, 'self.conn.error = self.conn.error or "it ended without TLS\'s closing alert"', "pass"),
           tests=["tls/test_origins.py::test_truncation_is_seen[until the end-TLS 1.3]"]),
    weaken("a bypass without a probe", (BYPASS, "if (doubt := await self._doubt(policy, connection, hello)) is None",
                                        "if (doubt := None) is None"),
           tests=[f"{LEARNED}test_a_banks_name_to_an_address_of_ones_own_is_inspected"]),
    weaken("an exception proves a name", ("proxy/probe.py", "(await self._origins.refusal(origin), *tolerated(origin))",
                                          "(await self._origins.refusal(origin),)"),
           tests=["proxy/test_probe.py::test_what_the_policy_tolerates_proves_nothing"]),
    weaken("pins learned by anybody", (PINS, "if self.find(connection) or not any(rule.covers(*key) for rule in learn)",
                                       "if self.find(connection)"),
           tests=[f"{LEARNED}test_a_program_that_is_not_on_the_list_is_not", f"{LEARNED}test_by_default_nothing_is_learned"]),
    weaken("pins against rules", (BYPASS, "return not policy.connection_verdict(connection).rule", "return True"),
           tests=[f"{LEARNED}test_a_rule_that_says_inspect_wins"]),
    weaken("pins that cannot be revoked", (PINS, "if stamp != self._seen", "if False"),
           tests=[f"{LEARNED}test_what_pins_and_may_be_learned_is"]),
    # -- the sessions
    weaken("a newer version than the origin's", (FACE, 'SSL.TLS1_2_VERSION if server.tls_version == "TLSv1.2" else SSL.TLS1_3_VERSION',
                                                 "SSL.TLS1_3_VERSION"),
           tests=["tls/test_clients.py::test_the_version_is_the_older_one[origin 1.2]"]),
    weaken("CBC suites", (MIRROR, 'CIPHERS = {\n    0xC02B:', 'CIPHERS = {\n    0xC009: "ECDHE-ECDSA-AES128-SHA", 0xC02B:'),
           tests=["tls/test_hellos.py::test_refused[CBC]", f"{OWN}test_nothing_weak_is_offered_though_the_client_offers_everything"]),
    weaken("TLS 1.1 for clients", (FACE, "context.set_min_proto_version(SSL.TLS1_2_VERSION)",
                                   "context.set_min_proto_version(SSL.TLS1_1_VERSION)"),
           (FACE, "context.set_cipher_list(CIPHERS.encode())", 'context.set_cipher_list(b"ALL:@SECLEVEL=0")'),
           tests=["tls/test_hellos.py::test_refused[TLS 1.1]"]),
    weaken("TLS 1.1 with origins", ("proxy/origins.py", "if exempt else TLS1_2", "if exempt else TLS1_1"),
           (MIRROR, "oldest, newest = min(versions, default=floor)", "oldest, newest = floor"),
           tests=["tls/test_origins.py::test_bad_manners[TLS 1.1]"]),
    weaken("renegotiation with origins", (UPSTREAM, "SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION", "SSL.OP_NO_COMPRESSION"),
           tests=["proxy/test_upstream.py::test_no_other_certificate_later"]),
    weaken("renegotiation by clients", (FACE, "SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION",
                                        "SSL.OP_NO_COMPRESSION | 0x100"),
           tests=["tls/test_clients.py::test_renegotiation_is_refused"]),
    weaken("post-quantum groups dropped", (MIRROR, '0x11EC: "X25519MLKEM768", ', ""),
           tests=["proxy/test_mirror.py::test_groups_meet[post-quantum where both have it]"]),
    weaken("tickets across users", (TICKETS, "repr((owner, name, generation))", "repr((name, generation))"),
           tests=[f"{RESUMES}[TLS 1.2-another user]", f"{RESUMES}[TLS 1.3-another user]"]),
    weaken("tickets across policies", (TICKETS, "repr((owner, name, generation))", "repr((owner, name))"),
           tests=[f"{RESUMES}[TLS 1.3-after a reload of the policy]"]),
    weaken("tickets across names", (TICKETS, "repr((owner, name, generation))", "repr((owner, generation))"),
           tests=[f"{RESUMES}[TLS 1.3-another name]"]),
    weaken("a ticket twice", (TICKETS, "self._tickets.pop(key, None) if resume", "self._tickets.get(key) if resume"),
           tests=["proxy/test_resumption.py::test_used_once"]),
    weaken("a client's certificate for everybody", ("proxy/tlspolicy.py", "for each in self.identities if any(matches_host(p, host) "
                                                    "for p in each.hosts)", "for each in self.identities"),
           tests=["live/test_tls_live.py::test_with_the_policy_s_certificate_it_opens_to_that_host_alone"]),
    weaken("leaves with the root's key", ("certs/authority.py", "return Leaf(certificate, self._leaf_key, ())",
                                          "return Leaf(certificate, self._key, ())"),
           ("certs/authority.py", "            self._leaf_key.public_key(),", "            self._key.public_key(),"),
           tests=["proxy/test_tlsface.py::test_leaf_key_is_not_the_authority_s", "tls/test_verdicts.py::test_what_clients_are_shown"]),
    weaken("leaves that outlive the origin's", (FACE, "self._authority.issue(names, not_after=not_after)", "self._authority.issue(names)"),
           tests=["proxy/test_tlsface.py::test_leaf_ends_no_later_than_the_origin"]),
    # -- HTTP
    weaken("two Host headers", (HOSTS, 'named = request.headers.get_all("host")', 'named = request.headers.get_all("host")[-1:]'),
           tests=["proxy/test_http1.py::test_malformed_request[two hosts]", "proxy/test_hosts.py::test_disagrees[two]"]),
    weaken("a host that is not the SNI's", (HOSTS, "if expected is not None and host != normalize(expected)", "if False"),
           tests=["proxy/test_framing.py::test_domain_fronting_has_a_name",
                  "proxy/test_h2_framing.py::test_another_host_over_a_coalesced_connection"]),
    weaken("bare CR passed", ("proxy/http1.py", r'rb"[\x00\x0b\x0c\r]"', r'rb"[\x00\x0b\x0c]"'),
           (NORMAL, r'_VALUE = re.compile(rb"[\t -~\x80-\xff]*")', r'_VALUE = re.compile(rb"[\t\r -~\x80-\xff]*")'),
           tests=[f"{FRAMING}[bare CR in a value]"]),
    weaken("TE and CL passed", (NORMAL, "        validate_headers(request)\n", "        pass\n"),
           tests=[f"{FRAMING}[te.cl]", f"{FRAMING}[cl.te]"]),
    weaken("a folded line passed", (NORMAL, r'_VALUE = re.compile(rb"[\t -~\x80-\xff]*")', r'_VALUE = re.compile(rb"[\t\r\n -~\x80-\xff]*")'),
           tests=["proxy/test_normal.py::test_malformed[a folded line]", f"{FRAMING}[folded]"]),
    weaken("an upgrade that we cannot read", (NORMAL, '        headers.pop("upgrade", None)\n        return', "        return"),
           tests=["proxy/test_framing.py::test_forwarded[upgrade to h2c]"]),
    weaken("a cut body looks whole", ("proxy/http1.py", "yield Abort()       #", "pass       #"),
           ("proxy/stream.py", 'response.headers["transfer-encoding"] = "chunked"', "pass"),
           tests=[f"{OWN}test_a_body_that_only_an_end_can_end_does_not_look_whole[{version}]" for version in ("1.0", "1.1")]),
    weaken("Alt-Svc passed", (NORMAL, 'response.headers["alt-svc"] = "clear"', "pass"),
           tests=["proxy/test_normal.py::test_no_silent_way_to_http3[reject]"]),
    weaken("101 without the key", ("proxy/websocket.py", 'if headers.get("sec-websocket-accept") != base64.b64encode(digest).decode()',
                                   "if False"),
           tests=["proxy/test_websocket_framing.py::test_no_handshake[another key's accept]"]),
    # -- what would hide a name, and who runs as what
    weaken("hidden: resolvers pass", (SCHEMA, 'if self.capture.encrypted_dns == "refuse" and', "if False and"),
           tests=[f"{HIDES}[a resolver]", f"{HIDES}[a resolver that is bypassed]"]),
    weaken("hidden: questions pass", ("proxy/disclosure.py", "if not refuse:", "if True:"),
           tests=[f"{ANSWERS}questions_are_refused_by_an_error_and_go_nowhere"]),
    weaken("hidden: long answers pass", ("proxy/session.py", 'if hook == "response" and self.rewrite is not None', "if False"),
           tests=[f"{ANSWERS}what_cannot_be_read_is_not_handed_on[longer"]),
    weaken("hidden: a hello earns a bypass", (SCHEMA, "sent = self.ja4 or self.sni or self.ech", "sent = self.ja4"),
           tests=["proxy/test_schema.py::test_a_hello_alone_earns_no_bypass"]),
    weaken("hidden: port 853 is open", ("redirector/forwarding.py", 'if plan.encrypted_dns == "refuse"', "if False"),
           tests=["redirector/test_nftables.py::test_variants[encrypted DNS]"]),
    weaken("hidden: QUIC for all where one may",
           ("redirector/nftables.py", 'yield f"meta skuid {_set(plan.quic_users)} udp', 'yield "udp'),
           tests=["redirector/test_nftables.py::test_variants[QUIC for two]"]),
    weaken("service: anybody gets a redirector", (ACTIVATED, "require(uid in (0, start.plan.exempt_uid)", "require(True"),
           tests=["redirector/test_activated.py::test_who_may_ask"]),
    weaken("service: anybody writes the rules", (ACTIVATED, " and not info.st_mode & 0o022", ""),
           tests=["redirector/test_activated.py::test_other_files_are_refused[others may write it]"]),
    weaken("service: root runs what others change", ("proxy/service.py", "policy.refuse_foreign(path, path.stat())", "path.stat()"),
           tests=["proxy/test_service.py::test_code_that_others_may_change_is_refused"]),
    weaken("service: anybody's record is undone", ("proxy/service.py", "release.check_folder(str(RECORD.parent))", "pass"),
           tests=["proxy/test_service.py::test_a_record_that_others_may_have_written_is_not_believed"]),
    weaken("service: a crash lifts the guard", ("proxy/serving.py", 'os.environ.get("SERVICE_RESULT") == "success"', "True"),
           tests=["proxy/test_serving.py::test_only_an_orderly_end_lifts_the_guard[watchdog-False]"]),

    # -- proxies before and behind us
    weaken("oddly written addresses are names", (DOOR, "as_address(host) is None and via.covers(host)", "via.covers(host)"),
           tests=["proxy/test_upstreamproxy.py::test_forbidden_addresses_stay_forbidden"]),
    weaken("nothing is met directly", ("proxy/upstreamproxy.py", "return not any(self._exceptions", "return True or any(self._exceptions"),
           tests=["proxy/test_upstreamproxy.py::test_exceptions_are_met_directly"]),
    weaken("a bypass by address follows the name",
           ("proxy/listener.py", "connection.host if by_name(self.rules().policy, connection) else None", "connection.host"),
           tests=["proxy/test_upstreamproxy.py::test_a_bypass_by_address_leads_to_that_address"]),
    weaken("the upstream proxy's question goes on to the client", ("proxy/http1.py", "response.status_code == 407", "False"),
           tests=["proxy/test_upstreamproxy.py::test_a_plain_request_that_it_wants_a_password_for"]),
    weaken("we are our own upstream proxy", ("proxy/upstreamproxy.py", "if destination.ours(address, port, self._own)", "if False"),
           tests=["proxy/test_upstreamproxy.py::test_our_own_listener_is_no_upstream_proxy"]),
    weaken("our loopback is everybody's", ("proxy/destination.py", "if ip.is_loopback and not here", "if False"),
           tests=["proxy/test_destination.py::test_forbidden_to_other_computers"]),
    weaken("a password that others read", ("proxy/secretfile.py", "if private and info.st_mode", "if False and info.st_mode"),
           tests=["proxy/test_secretfile.py::test_who_may_read_it"]),
    weaken("a proxy for everybody unasked", ("proxy/ways.py", "if not self.config.anyone", "if False"),
           tests=["proxy/test_admission.py::test_who_is_let_in"]),
    weaken("SOCKS knows no password", (DOOR, "wanted = socks.NO_AUTHENTICATION if admission is None else socks.PASSWORD",
                                       "wanted, admission = socks.NO_AUTHENTICATION, None"),
           tests=["proxy/test_door_users.py::test_refused[SOCKS 5 without]"]),
    weaken("SOCKS 4 is let in", (DOOR, "        if admission is not None:\n            raise Refusal(407, \"SOCKS 4", "        if False:\n            raise Refusal(407, \"SOCKS 4"),
           tests=["proxy/test_door_users.py::test_refused[SOCKS 4]"]),
    weaken("an undo takes others' changes with it", ("proxy/settingrecord.py", "if now[key] == after[key] != before[key]}", "if now[key] != before[key]}"),
           tests=["proxy/test_systemproxy.py::test_what_others_changed_is_said_and_left_alone"]),
)
