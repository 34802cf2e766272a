//! A round in memory of which every client's phase is kept as it was written down, so that a step can be taken from it as
//! often as an attack likes: what a crash would give, without the crash.

use std::collections::BTreeMap;

use veilsum_crypto::client::*;
use veilsum_crypto::ids::ClientId;
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::testing::{Play, TASK, World, now, os_rng};

/// A round, and what each client has on disk.
pub struct Rehearsal {
    /// The round; its aggregator is honest.
    pub play: Play,
    disks: BTreeMap<ClientId, Vec<u8>>,
}

impl Rehearsal {
    /// All have advertised; the roster is fixed.
    pub fn of(world: World) -> Self {
        let mut rehearsal = Self { play: Play::of(world), disks: BTreeMap::new() };
        let header = rehearsal.play.world.header();
        for number in 0..rehearsal.play.world.members.len() {
            let world = &rehearsal.play.world;
            let turn =
                world.enrolled(number).advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut os_rng());
            let (disk, sent) = world.written(turn.expect("an honest header"));
            rehearsal.take(world.members[number].client(), disk, &sent);
        }
        rehearsal.close();
        rehearsal
    }

    /// With these parameters.
    pub fn new(params: RoundParams) -> Self {
        Self::of(World::new(params))
    }

    /// A client as a restart finds it.
    pub fn resume(&self, client: ClientId) -> Resumed {
        let members = &self.play.world.members;
        let member = members.iter().find(|member| member.client() == client).expect("a client of this world");
        Resumed::open(&self.play.world.saving, &self.disks[&client], member).expect("as it was written")
    }

    /// Everybody, by id.
    pub fn clients(&self) -> Vec<ClientId> {
        self.play.world.members.iter().map(|member| member.client()).collect()
    }

    fn take(&mut self, client: ClientId, disk: Vec<u8>, sent: &[u8]) {
        if !sent.is_empty() {
            self.play.put(client, sent);
        }
        self.disks.insert(client, disk);
    }

    fn close(&mut self) {
        self.play.aggregator.close(&self.play.world);
    }
}
