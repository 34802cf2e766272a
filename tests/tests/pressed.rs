//! Strangers who want the service to be busy with them: honest clients are served all the same.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use verification::world::*;

/// Connections that begin an advert and never send it: more than the messages that may ever have been received at once, and few
/// enough for the files that a process may open.
const SILENT: usize = 560;

/// A process that opens them, holds them and says so; dropped, it is killed.
struct Silence(Child);

impl Silence {
    fn of(world: &World, round: &str) -> Self {
        let script = format!(
            r#"for number in $(seq {SILENT}); do
  exec {{line}}<>/dev/tcp/{}/{} || exit 1
  printf 'PUT /v1/rounds/{round}/advertise/%032x HTTP/1.1\r\nhost: x\r\ncontent-length: 600\r\n\r\n' "$number" >&$line
done
echo held; sleep 600"#,
            world.address.ip(),
            world.address.port(),
        );
        let mut child = Command::new("bash").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("bash");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut said).expect("text");
        assert_eq!(said, "held\n", "every connection was taken");
        Self(child)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// C-262: who holds many places that cost nothing keeps nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_keep_no_message_out() {
    let world = World::new(Shape::patient(3)).await;
    let round = world.round(1).await;
    let silence = Silence::of(&world, &round.to_string());
    world.play(&[]).await;
    world.is_exact_sum_of(round, &world.ids(0..3)).await;
    drop(silence);
}
