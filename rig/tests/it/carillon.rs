//! Processes of Carillon, played by a stand-in: this crate cannot build the executable. The tests of `carillon` use the
//! same code with the real one.

use std::time::Duration;

use rig::{
    Error,
    carillon::{Node, Options, Service},
    folder::Folder,
};

use super::support::stand_in;

const SOON: Duration = Duration::from_secs(20);

fn options(folder: &Folder) -> Options {
    Options {
        service: Service::Hub,
        program: Some(stand_in(folder)),
        config: "# a comment".to_owned(),
        environment: vec![("SECRET".to_owned(), "s".to_owned())],
        ..Options::default()
    }
}

#[test]
fn a_node_is_ready_red_killed_and_back_on_its_ports() {
    let folder = Folder::new("test").unwrap();
    let node = Node::start(&options(&folder)).unwrap();
    let (pid, addresses) = (node.pid(), [node.address(), node.internal()]);
    assert!(node.log().contains("config: # a comment alone"), "{}", node.log());

    let red = node.folder().join("red");
    std::fs::write(&red, "").unwrap();
    assert_eq!(node.wait_until_unready(SOON).unwrap(), "bus");
    std::fs::remove_file(red).unwrap();
    node.wait_until_ready(SOON).unwrap();

    node.kill().unwrap();
    assert!(!node.is_running() && node.ready().is_err());
    node.restart().unwrap();
    assert_ne!(node.pid(), pid);
    assert_eq!([node.address(), node.internal()], addresses);
    node.terminate().unwrap();
    assert!(node.wait(SOON).unwrap());
}

#[test]
fn its_commands_have_its_environment() {
    let folder = Folder::new("test").unwrap();
    let node = Node::start(&options(&folder)).unwrap();
    assert_eq!(node.command(&["token", "--user", "u1"]).unwrap(), "token of s");
    let refused = node.command(&["token", "--bad"]).unwrap_err().to_string();
    assert!(refused.contains("no such option"), "{refused}");
}

#[test]
fn one_that_refuses_its_configuration_says_why_at_once() {
    let folder = Folder::new("test").unwrap();
    let refused = Node::start(&Options {
        arguments: vec!["refuses".to_owned()],
        ..options(&folder)
    });
    let refused = refused.unwrap_err();
    assert!(matches!(refused, Error::Ended { .. }), "{refused:?}");
    assert!(refused.to_string().contains("redis.urls is missing"), "{refused}");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let folder = Folder::new("test").unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = Node::spawn(&Options {
        ports: Some([port, port]),
        ..options(&folder)
    });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains(&port.to_string()), "{refused}");
}
