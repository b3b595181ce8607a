//! Properties of pools: asked for and changed, through deaths.

use crate::control_plane::{SYS, admin, block_on, channel, number};
use daos_e2e::Site;
use daos_proto::fault;
use daos_proto::mgmt::mgmt_svc_client::MgmtSvcClient;
use daos_proto::mgmt::pool_property::Value;
use daos_proto::mgmt::{PoolGetPropReq, PoolProperty, PoolSetPropReq};

#[test]
fn the_label_of_a_pool_is_changed_for_good() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.shell(&["pool", "create", "tank", "--size", "20%", "-u", "me@"])
        .expect(0);
    site.shell(&["pool", "create", "other", "--size", "20%"])
        .expect(0);
    site.daos(&["container", "create", "--pool", "tank", "box"])
        .expect(0);
    site.shell(&["pool", "set-prop", "tank", "label:pond"])
        .expect(0);
    // As it was told, so it is, whoever dies.
    server.kill_engine(0);
    server.kill();
    drop(server);
    let mut server = site.start();
    server.wait_phase("ready");
    let told = site
        .shell(&["--json", "pool", "get-prop", "pond", "label,owner,scrub"])
        .expect(0)
        .json();
    let value = |n: usize| told["response"][n]["value"].clone();
    assert_eq!(
        (value(0), value(1), value(2)),
        ("pond".into(), "me@".into(), 0.into())
    );
    let boxes = site
        .daos(&["container", "list", "--pool", "pond"])
        .expect(0);
    assert!(boxes.stdout.contains("box"), "{boxes}");
    site.shell(&["pool", "query", "tank"]).expect(1);
    // Its former label is free, another's is not.
    let taken = site
        .shell(&["pool", "set-prop", "pond", "label:other"])
        .expect(1);
    assert!(taken.stderr.contains("already exists"), "{taken}");
    for (assignment, words) in [
        ("label:no spaces", "label"),
        ("scrub:1", "scrub is 0 for every pool"),
        ("owner:you@", "cannot be changed"),
    ] {
        let done = site
            .shell(&["pool", "set-prop", "pond", assignment])
            .expect(1);
        assert!(done.stderr.contains(words), "{done}");
    }
    site.shell(&["pool", "set-prop", "pond", "scrub:0,label:pond"])
        .expect(0);
    site.shell(&["pool", "set-prop", "pond", "colour:red"])
        .expect(2);
    let gone = site.shell(&["pool", "get-prop", "tank"]).expect(1);
    assert!(gone.stderr.contains("unable to find pool"), "{gone}");
    site.shell(&["pool", "set-prop", "other", "label:tank"])
        .expect(0);
    server.stop();
}

#[test]
fn properties_are_answered_as_that_control_plane_s_tools_ask() {
    let site = Site::with_file();
    let mut server = site.start();
    server.make_ready();
    site.shell(&["pool", "create", "tank", "--size", "20%"])
        .expect(0);
    block_on(async {
        let mut mgmt = MgmtSvcClient::new(channel(&site).await);
        let get = |numbers: &[u32]| {
            admin(PoolGetPropReq {
                sys: SYS.to_owned(),
                id: "tank".to_owned(),
                properties: numbers
                    .iter()
                    .map(|number| PoolProperty {
                        number: *number,
                        value: None,
                    })
                    .collect(),
                ..PoolGetPropReq::default()
            })
        };
        // What they ask for without names: an entry without a value would make them fail.
        let all: Vec<u32> = (1..=27).filter(|n| ![2, 8].contains(n)).collect();
        let told = mgmt.pool_get_prop(get(&all)).await.expect("properties");
        let told = &told.get_ref().properties;
        let numbers: Vec<u32> = told.iter().map(|p| p.number).collect();
        assert_eq!(numbers, all);
        assert!(told.iter().all(|p| p.value.is_some()), "{told:?}");
        assert_eq!(told[0].value, Some(Value::Strval("tank".to_owned())));
        let unknown = mgmt
            .pool_get_prop(get(&[99]))
            .await
            .expect_err("no such one");
        assert_eq!(fault::status_number(&unknown), Some(-2037));
        let set = |properties| {
            admin(PoolSetPropReq {
                sys: SYS.to_owned(),
                id: "tank".to_owned(),
                properties,
                ..PoolSetPropReq::default()
            })
        };
        let one = |number, value| vec![PoolProperty { number, value }];
        for (properties, status) in [
            (Vec::new(), Some(-1003)),
            (one(1, None), Some(-1003)),
            (one(1, Some(Value::Numval(3))), Some(-1003)),
            (one(1, Some(Value::Strval(String::new()))), Some(-1003)),
            (one(11, Some(Value::Numval(1))), Some(-2037)),
            (one(99, Some(Value::Numval(1))), Some(-2037)),
        ] {
            let refused = mgmt.pool_set_prop(set(properties)).await;
            let refused = refused.expect_err("it cannot be set");
            assert_eq!(fault::status_number(&refused), status, "{refused}");
        }
        let label = one(1, Some(Value::Strval("pond".to_owned())));
        mgmt.pool_set_prop(set(label)).await.expect("a label");
        let gone = mgmt
            .pool_get_prop(get(&[1]))
            .await
            .expect_err("the old label");
        assert!(
            fault::is_pool_not_found(&gone) && number(&gone) == 0,
            "{gone}"
        );
    });
    // One that only other engines could keep is refused with the pool.
    server.stop();
}
