//! TEMPORARY.
use crate::Error;
use std::time::Duration;
pub(crate) type Connection = deadpool_postgres::Object;
#[derive(Clone, Debug)]
pub struct Pool(deadpool_postgres::Pool);
impl Pool {
    pub fn new(config: tokio_postgres::Config, size: usize) -> Self {
        let m = deadpool_postgres::Manager::from_config(
            config,
            tokio_postgres::NoTls,
            deadpool_postgres::ManagerConfig { recycling_method: deadpool_postgres::RecyclingMethod::Fast },
        );
        Self(
            deadpool_postgres::Pool::builder(m)
                .max_size(size)
                .runtime(deadpool_postgres::Runtime::Tokio1)
                .build()
                .unwrap(),
        )
    }
    pub(crate) async fn get(&self, within: Duration) -> Result<Connection, Error> {
        self.0
            .timeout_get(&deadpool_postgres::Timeouts { wait: Some(within), create: Some(within), recycle: None })
            .await
            .map_err(|e| Error::Store(Box::new(e)))
    }
    pub(crate) fn close(&self) {
        self.0.close()
    }
}
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Error::Store(Box::new(error))
    }
}
