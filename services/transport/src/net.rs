//! The network that all else stands on: the system's, or in a simulation that
//! of the crate turmoil. Which one it is, is known here alone.

#[cfg(feature = "simulation")]
mod simulated;
#[cfg(not(feature = "simulation"))]
mod system;

#[cfg(feature = "simulation")]
pub use self::simulated::TcpStream;
#[cfg(feature = "simulation")]
pub(crate) use self::simulated::{Bound, Listener, TcpSocket, listen, reset_when_closed};
#[cfg(not(feature = "simulation"))]
pub use self::system::TcpStream;
#[cfg(not(feature = "simulation"))]
pub(crate) use self::system::{Bound, Listener, TcpSocket, listen, reset_when_closed};
