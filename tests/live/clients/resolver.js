// A resolver over HTTPS first, the system's where that fails; found without asking, and not tested beforehand.
user_pref("network.trr.mode", 2);
user_pref("network.trr.uri", "https://git.test/dns-query");
user_pref("network.trr.custom_uri", "https://git.test/dns-query");
user_pref("network.trr.bootstrapAddr", "198.51.100.2");
user_pref("network.trr.wait-for-confirmation", false);
user_pref("network.trr.confirmationNS", "skip");
user_pref("network.connectivity-service.enabled", false);
user_pref("doh-rollout.disable-heuristics", true);
