//! What goes through TLS is what goes without it: order, sizes, the end.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_at_once_are_answered_in_order() {
    let house = House::open().await;
    let mut talk = house.enter(&house.trusting()).await.unwrap();
    let lines = |line: fn(u32) -> String| (1_000..3_000).map(line).collect::<Vec<_>>().concat();
    let requests = lines(|number| format!("ECHO {number}\r\n"));
    let replies = lines(|number| format!("$4\r\n{number}\r\n"));
    talk.0.write_all(format!("{requests}QUIT\r\n").as_bytes()).await.unwrap();
    // An end without the word for it would be an error.
    assert_eq!(talk.rest().await.unwrap(), format!("{replies}+OK\r\n"));
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_replies_larger_than_all_buffers_go_through_whole() {
    let house = House::open().await;
    let mut talk = house.enter(&house.trusting()).await.unwrap();
    let (mut reading, mut writing) = tokio::io::split(talk.0);
    for length in [0, 1, 16_383, 16_384, 16_385, 70_000, 3_000_000] {
        let text: Vec<u8> = (0..length).map(|at: u32| (at % 251) as u8).collect();
        let bulk = [format!("${length}\r\n").as_bytes(), &text, b"\r\n"].concat();
        let request = [b"*2\r\n$4\r\nECHO\r\n".as_slice(), &bulk].concat();
        // Both ways at once, as neither side holds all of it.
        let sent = async {
            writing.write_all(&request.repeat(3)).await.unwrap();
            writing.flush().await.unwrap();
        };
        let mut got = vec![0; bulk.len() * 3];
        let ((), read) = tokio::join!(sent, reading.read_exact(&mut got));
        read.unwrap();
        assert!(got == bulk.repeat(3), "{length}");
    }
    talk = Talk(reading.unsplit(writing));
    assert_eq!(talk.call("PING").await.unwrap(), "+PONG");
    house.node.stop().await;
}

/// A record for each byte, hundreds of them in what is read at a time.
#[tokio::test(flavor = "multi_thread")]
async fn requests_in_the_smallest_pieces_are_put_together() {
    let house = House::open().await;
    let mut talk = house.enter(&house.trusting()).await.unwrap();
    let word = "smallest ".repeat(300);
    for byte in format!("*2\r\n$4\r\nECHO\r\n${}\r\n{word}\r\n", word.len()).bytes() {
        talk.0.write_all(&[byte]).await.unwrap();
    }
    talk.0.flush().await.unwrap();
    assert_eq!(talk.line().await.unwrap(), format!("${}", word.len()));
    assert_eq!(talk.line().await.unwrap(), word);
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_that_nothing_follows_still_gets_what_he_asked_for() {
    let house = House::open().await;
    let mut talk = house.enter(&house.trusting()).await.unwrap();
    talk.0.write_all(b"ECHO last\r\n").await.unwrap();
    talk.0.shutdown().await.unwrap();
    assert_eq!(talk.rest().await.unwrap(), "$4\r\nlast\r\n");
    house.node.stop().await;
}

/// Both with the word for the end and without it, a command that waits for hours is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn who_hangs_up_ends_what_runs_for_him() {
    let house = House::with(|_, plan| plan.config.server.hangup_grace = Duration::ZERO).await;
    let mut other = house.enter(&house.trusting()).await.unwrap();
    assert_eq!(other.call("BUCKET.CREATE users").await.unwrap(), "+OK");
    for in_good_order in [true, false] {
        let mut waiting = house.enter(&house.trusting()).await.unwrap();
        waiting.call_blindly("BUCKET.CHANGES users FROM $ BLOCK 0").await.unwrap();
        let waits = || house.node.services().waiters().is_ok_and(|waiters| waiters.rooms() == 1);
        until("one who waits", waits).await;
        if in_good_order {
            waiting.0.shutdown().await.unwrap();
        } else {
            drop(waiting);
        }
        house.connected(1).await;
    }
    house.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_put_out_and_the_others_notice_nothing() {
    let house = House::with(|_, plan| {
        plan.config.server.output_bytes_max = 1_024;
        plan.config.server.output_timeout = Duration::from_millis(50);
    })
    .await;
    let mut silent = house.enter(&house.trusting()).await.unwrap();
    let mut other = house.enter(&house.trusting()).await.unwrap();
    let word = "x".repeat(60_000);
    // Until the node takes no more, which it does not when it has put this one out.
    let talking = async { while silent.call_blindly(&format!("ECHO {word}")).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, talking).await.unwrap();
    assert_eq!(other.call("PING").await.unwrap(), "+PONG");
    house.node.stop().await;
}

impl Talk {
    /// Sends a line and waits for nothing.
    async fn call_blindly(&mut self, line: &str) -> io::Result<()> {
        self.0.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.0.flush().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_told_to_those_who_came_through_tls() {
    let house = House::open().await;
    let mut talk = house.enter(&house.trusting()).await.unwrap();
    house.node.stop().await;
    assert!(talk.rest().await.is_ok_and(|rest| rest.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_can_be_killed_and_is_listed_like_any_other() {
    let house = House::open().await;
    let mut victim = house.enter(&house.trusting()).await.unwrap();
    let mut other = house.enter(&house.trusting()).await.unwrap();
    let id = victim.call("CLIENT ID").await.unwrap();
    let id = id.trim_start_matches(':');
    assert_eq!(other.call(&format!("CLIENT KILL ID {id}")).await.unwrap(), ":1");
    // Killed is cut off: no word of an end is owed.
    let _ended = victim.rest().await;
    assert!(victim.call("PING").await.is_err());
    house.node.stop().await;
}
