use super::*;

#[test]
fn certificates_are_looked_at_and_keys_narrowed() {
    let (dir, mut node) = machine(&[]);
    let mut config = Config::default();
    assert_found(&trust::certificates(&node, &config), Fail, "cert init");
    let certs = dir.path().join("etc/daos/certs");
    fs::create_dir_all(&certs).unwrap();
    let authority = daos_certs::Authority::new(daos_certs::Validity::days(400)).unwrap();
    let write = |name: &str, text: &str, bits: u32| {
        let path = certs.join(name);
        let _ = fs::remove_file(&path);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
    };
    let issue = |days: u32| {
        let validity = daos_certs::Validity::days(days);
        let issued = authority.issue(daos_certs::Role::Server, "server", validity);
        let (cert, key) = issued.unwrap();
        write("daosCA.crt", authority.certificate(), 0o644);
        write("server.crt", &cert, 0o644);
        write("server.key", &key, 0o644);
    };
    issue(300);
    // Later than the certificates by more than anything here takes: they have a little less than whole days left.
    node.now += Duration::from_secs(3600);
    me(&mut node);
    let wide = trust::certificates(&node, &config);
    assert_found(&wide, Fail, "server.key");
    assert_eq!(
        wide.fix.as_ref().unwrap().to_string(),
        "chmod 0400 /etc/daos/certs/server.key"
    );
    mend(&node, &[wide], |note| panic!("{note}"));
    assert_found(&trust::certificates(&node, &config), Good, "299 days");
    issue(20);
    mode(&dir, "etc/daos/certs/server.key", 0o400);
    assert_found(&trust::certificates(&node, &config), Warn, "19 days");
    config.transport_config.allow_insecure = true;
    assert_found(&trust::certificates(&node, &config), Warn, "TLS is off");
}

#[test]
fn plugins_that_are_kept_out_are_named() {
    use daos_proto::host;
    let plugin = |name: &str, state: host::PluginState| host::Plugin {
        name: name.to_owned(),
        state: state.into(),
        fault: Some(host::Fault {
            what: "cannot use it".to_owned(),
            cause: "it is writable by others".to_owned(),
            remedy: "chmod it".to_owned(),
            ..host::Fault::default()
        }),
        ..host::Plugin::default()
    };
    let report = |plugins| {
        PluginReport::from(host::PluginListResponse {
            plugins,
            ..host::PluginListResponse::default()
        })
    };
    let found = trust::plugins(
        &report(vec![
            plugin("good", host::PluginState::Usable),
            plugin("bad", host::PluginState::Refused),
            plugin("old", host::PluginState::Shadowed),
        ]),
        &[Diagnostic::error(daos_config::Code::Provider, "no plugin has it").hint("install it")],
    );
    assert_found(&found[0], Good, "good");
    assert_found(
        &found[1],
        Warn,
        "bad is refused: cannot use it: it is writable by others",
    );
    assert_found(&found[2], Fail, "no plugin has it");
    assert_eq!(found.len(), 3);
    assert_found(
        &trust::plugins(&report(Vec::new()), &[])[0],
        Fail,
        "none can be used",
    );
    assert_found(&trust::no_plugins("plugins_dir is gone"), Fail, "gone");
}

#[test]
fn the_configuration_is_named_with_its_first_error() {
    assert_found(
        &trust::config(None, &[])[0],
        NotApplicable,
        "config generate",
    );
    let file = Some(Path::new("/x.yml"));
    assert_found(&trust::config(file, &[])[0], Good, "/x.yml");
    let warning = Diagnostic::warning(daos_config::Code::Provider, "old name");
    assert_found(
        &trust::config(file, std::slice::from_ref(&warning))[0],
        Warn,
        "old name",
    );
    let error = Diagnostic::error(daos_config::Code::Provider, "wrong");
    assert_found(
        &trust::config(file, &[warning, error])[0],
        Fail,
        "1 error(s), first: wrong",
    );
}
