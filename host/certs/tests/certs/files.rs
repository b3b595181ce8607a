//! Files that a component is given: what is refused, and in which words.

use crate::site::{Site, hours};
use daos_certs::{Files, Identity, Kind, Renewal, Renewing, Role, Validity, survey};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Why the server's files are refused.
fn refusal(files: &Files) -> (Kind, String) {
    let problem = Identity::load(files, Role::Server, "server").unwrap_err();
    (problem.kind, problem.to_string())
}

#[test]
fn issued_certificates_are_accepted_for_their_role_and_name() {
    let site = Site::new();
    for role in Role::ALL {
        let identity = site.identity(role);
        assert_eq!(identity.facts().name, role.name());
        assert_eq!(identity.facts().issuer, "DAOS CA");
        assert!(!identity.facts().is_authority);
    }
    let named = site.issue_as(Role::Server, "tank", Validity::days(1));
    assert!(Identity::load(&named, Role::Server, "tank").is_ok());
}

#[test]
fn modes_are_maxima_and_the_remedy_mends_them() {
    let site = Site::new();
    let files = site.issue(Role::Server, Validity::days(1));
    for (file, wide, tight) in [
        (&files.key, 0o440, "0400"),
        (&files.key, 0o600, "0400"),
        (&files.cert, 0o666, "0664"),
        (&files.ca, 0o646, "0644"),
    ] {
        let before = std::fs::metadata(file).unwrap().permissions();
        chmod(file, wide);
        let (kind, said) = refusal(&files);
        assert_eq!(kind, Kind::Unreadable);
        assert!(said.contains(&format!("{wide:04o}")), "{said}");
        let command = said.split("run: ").nth(1).unwrap();
        assert_eq!(command, format!("chmod {tight} {}", file.display()));
        let done = std::process::Command::new("sh")
            .args(["-c", command])
            .status();
        assert!(done.unwrap().success());
        assert!(Identity::load(&files, Role::Server, "server").is_ok());
        std::fs::set_permissions(file, before).unwrap();
    }
    chmod(&files.cert, 0o400);
    assert!(
        Identity::load(&files, Role::Server, "server").is_ok(),
        "a tighter mode is refused"
    );
    let admin = site.issue(Role::Admin, Validity::days(1));
    chmod(&admin.key, 0o440);
    assert!(Identity::load(&admin, Role::Admin, "admin").is_ok());
}

#[test]
fn each_bad_certificate_has_its_own_words() {
    let site = Site::new();
    let days = Validity::days(1);

    let missing = Files::in_dir(site.path(), Role::Server);
    let (kind, said) = refusal(&missing);
    assert_eq!(kind, Kind::Missing);
    assert!(
        said.contains("server.crt") && said.contains("daos_server cert init"),
        "{said}"
    );

    let (_, said) = refusal(&site.issue(Role::Server, hours(-3, -1)));
    assert!(said.contains("has expired on"), "{said}");
    let (_, said) = refusal(&site.issue(Role::Server, hours(1, 3)));
    assert!(said.contains("is not valid before"), "{said}");
    let (_, said) = refusal(&site.issue_as(Role::Server, "admin", days));
    assert!(
        said.contains("is the certificate of \"admin\"") && said.contains("\"server\" is wanted"),
        "{said}"
    );
    // Named like a server's, but made for an administrator.
    let admin = site.issue_as(Role::Admin, "server", days);
    let (_, said) = refusal(&admin);
    assert!(said.contains("not meant for this end"), "{said}");

    let other = Site::new();
    let mut mixed = other.issue(Role::Server, days);
    mixed.ca = site.path().join("daosCA.crt");
    let (_, said) = refusal(&mixed);
    assert!(said.contains("another authority signed it"), "{said}");

    let good = site.issue(Role::Server, days);
    let mut swapped = good.clone();
    swapped.key = other.issue(Role::Server, days).key;
    let (_, said) = refusal(&swapped);
    assert!(
        said.contains("does not belong to the certificate"),
        "{said}"
    );
    let mut no_authority = good.clone();
    no_authority.ca.clone_from(&good.cert);
    let (_, said) = refusal(&no_authority);
    assert!(said.contains("is no authority's certificate"), "{said}");

    std::fs::remove_file(&good.cert).unwrap();
    std::fs::write(&good.cert, "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    assert_eq!(refusal(&good).0, Kind::Invalid);
    std::fs::write(&good.cert, "").unwrap();
    let (_, said) = refusal(&good);
    assert!(said.contains("holds no certificate"), "{said}");
}

#[test]
fn an_authority_that_has_expired_vouches_for_nobody() {
    let site = Site::with(hours(-3, -1));
    let (_, said) = refusal(&site.issue(Role::Server, Validity::days(1)));
    assert!(
        said.contains("daosCA.crt") && said.contains("has expired on"),
        "{said}"
    );
}

#[test]
fn files_replaced_while_a_server_runs_are_taken_if_they_are_good() {
    let site = Site::new();
    let files = site.issue(Role::Server, Validity::days(1));
    let renewing = Renewing::load(files.clone(), "server").unwrap();
    let (first, renewal) = renewing.config();
    assert!(matches!(renewal, Renewal::Same), "{renewal:?}");

    site.issue(Role::Server, Validity::days(10));
    let (second, renewal) = renewing.config();
    let Renewal::Renewed(until) = renewal else {
        panic!("not renewed: {renewal:?}");
    };
    assert!(until > time::OffsetDateTime::now_utc() + time::Duration::days(9));
    assert!(!std::sync::Arc::ptr_eq(&first, &second));
    assert!(matches!(renewing.config().1, Renewal::Same));

    std::fs::remove_file(&files.key).unwrap();
    let (third, renewal) = renewing.config();
    assert!(matches!(renewal, Renewal::Refused(_)), "{renewal:?}");
    assert!(
        std::sync::Arc::ptr_eq(&second, &third),
        "the last good ones go on"
    );
    assert!(
        matches!(renewing.config().1, Renewal::Same),
        "said once per change"
    );
    site.issue(Role::Server, Validity::days(1));
    assert!(matches!(renewing.config().1, Renewal::Renewed(_)));
}

#[test]
fn a_survey_says_everything_and_refuses_nothing() {
    let site = Site::new();
    site.issue(Role::Admin, hours(-3, -1));
    let server = site.issue(Role::Server, Validity::days(1));
    chmod(&server.key, 0o644);
    let found = survey(site.path()).unwrap();
    let of = |name: &str| {
        found
            .iter()
            .find(|one| one.file.ends_with(name))
            .unwrap_or_else(|| panic!("{name} is missing"))
    };
    assert_eq!(found.len(), 5);
    assert!(
        of("admin.crt").findings[0].what.contains("expired")
            && of("admin.crt").facts.as_ref().unwrap().name == "admin"
    );
    assert!(of("server.key").findings[0].what.contains("0644"));
    assert!(of("server.crt").findings.is_empty());
    assert!(of("daosCA.crt").facts.as_ref().unwrap().is_authority);
    assert!(survey(&site.path().join("nowhere")).is_err());
}
