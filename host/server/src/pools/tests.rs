use super::*;
use daos_config::ServerConfig;
use daos_drpc::methods::{host, mgmt, module};
use daos_drpc::{Module, Refusal, Reply, Request, Router, Server, reply};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Status number of what is busy.
const BUSY: i32 = -1012;

/// What stands for an engine with one pool.
#[derive(Default)]
struct Engine {
    /// A container has come that it did not tell of.
    refuses: AtomicBool,
    /// How often it was told to destroy the pool.
    told: AtomicUsize,
}

/// One set of its methods.
struct Methods(i32, Arc<Engine>);

impl Module for Methods {
    fn id(&self) -> i32 {
        self.0
    }

    fn call(self: Arc<Self>, request: Request) -> Reply {
        let engine = &self.1;
        let answer = match (self.0, request.method) {
            (module::HOST, host::POOLS) => reply(&EnginePools {
                pools: vec![EnginePool {
                    uuid: Uuid::from_u128(7).to_string(),
                    label: "tank".to_owned(),
                    ..EnginePool::default()
                }],
                ..EnginePools::default()
            }),
            (module::MGMT, mgmt::POOL_DESTROY) => {
                engine.told.fetch_add(1, Ordering::SeqCst);
                let refuses = engine.refuses.load(Ordering::SeqCst);
                reply(&PoolDestroyResp {
                    status: if refuses { BUSY } else { 0 },
                })
            }
            _ => Err(Refusal::UnknownMethod),
        };
        Box::pin(async { answer })
    }
}

/// A server with this many engines.
fn site(dir: &Path, count: usize) -> (Pools, Vec<Arc<Engine>>) {
    let mut config = daos_config::Config::default();
    config.servers = vec![ServerConfig::default(); count];
    let state = State::offline(config, daos_loader::StateDir::open(dir).unwrap());
    let engines: Vec<Arc<Engine>> = (0..count).map(|_| Arc::default()).collect();
    for (index, engine) in engines.iter().enumerate() {
        let socket = dir.join(format!("{index}.sock"));
        let router = [module::HOST, module::MGMT]
            .into_iter()
            .fold(Router::new(), |router, id| {
                router.with(Arc::new(Methods(id, Arc::clone(engine))))
            });
        let server = Server::bind(&socket, router).unwrap();
        tokio::spawn(server.serve(std::future::pending()));
        state.update(index, |status| {
            status.enter(EngineState::Ready, "it serves");
            status.rank = Some(index as u32);
            status.drpc_socket = socket.display().to_string();
        });
    }
    (Pools::new(Arc::new(state)), engines)
}

#[tokio::test]
async fn a_pool_that_its_first_engine_keeps_is_kept_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let (pools, engines) = site(dir.path(), 3);
    let destroy = async |recursive| {
        let request = PoolDestroyReq {
            id: "tank".to_owned(),
            recursive,
            ..PoolDestroyReq::default()
        };
        let outcome = pools.destroy(request).await;
        let told = |engine: &Arc<Engine>| engine.told.swap(0, Ordering::SeqCst);
        let told: Vec<usize> = engines.iter().map(told).collect();
        (outcome.map_err(|status| status.message().to_owned()), told)
    };
    engines[0].refuses.store(true, Ordering::SeqCst);
    let (refused, told) = destroy(false).await;
    assert!(refused.unwrap_err().contains("on rank 0"));
    assert_eq!(told, [1, 0, 0]);
    // Whoever wants it gone with all that is in it has each do what it can.
    let (refused, told) = destroy(true).await;
    assert!(refused.is_err());
    assert_eq!(told, [1, 1, 1]);
    engines[0].refuses.store(false, Ordering::SeqCst);
    let (done, told) = destroy(false).await;
    done.unwrap();
    assert_eq!(told, [1, 1, 1]);
}
