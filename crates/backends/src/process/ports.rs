//! Loopback ports for programs of mode HTTP.
//!
//! A program binds its port itself, some time after it was told which: nothing can hold the port for it until
//! then. So a port is one that was free a moment ago and that no other replica of ours was given. What remains,
//! a stranger who takes it in between, is noticed by [`Port::is_taken`] and cured by another port.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io,
    net::{Ipv4Addr, TcpListener},
    rc::Rc,
};

/// Ports that the system may offer and are ours already, before giving up.
const TRIES_MAX: usize = 64;

/// The ports that replicas were told to use. Cheap to clone; lives on one thread.
#[derive(Debug, Clone, Default)]
pub struct Ports(Rc<RefCell<BTreeSet<u16>>>);

/// A port that belongs to one replica until this is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    ports: Ports,
}

impl Ports {
    /// Finds a free port.
    ///
    /// # Errors
    /// The system has none.
    pub fn reserve(&self) -> io::Result<Port> {
        for _ in 0..TRIES_MAX {
            let number = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if self.0.borrow_mut().insert(number) {
                return Ok(Port { number, ports: self.clone() });
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Some replica was told to use this port.
    pub fn is_reserved(&self, number: u16) -> bool {
        self.0.borrow().contains(&number)
    }
}

impl Port {
    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Somebody listens there. Asked when the program is gone, that somebody is a stranger.
    pub fn is_taken(&self) -> bool {
        let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, self.number));
        matches!(bound, Err(error) if error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.ports.0.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_one_replica_until_it_is_given_back() {
        let ports = Ports::default();
        let given: Vec<Port> = (0..200).map(|_| ports.reserve().unwrap()).collect();
        let numbers: BTreeSet<u16> = given.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), given.len());
        assert!(numbers.iter().all(|number| ports.is_reserved(*number)));
        drop(given);
        assert!(!numbers.iter().any(|number| ports.is_reserved(*number)));
    }

    #[test]
    fn a_stranger_on_the_port_is_noticed() {
        let port = Ports::default().reserve().unwrap();
        assert!(!port.is_taken());
        let _stranger = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).unwrap();
        assert!(port.is_taken());
    }
}
