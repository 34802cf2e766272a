//! A round in memory of which every client's phase is kept as it was written down, so that a step can be taken from it as
//! often as an attack likes: what a crash would give, without the crash.

use std::collections::BTreeMap;
use std::sync::Arc;

use veilsum_crypto::client::*;
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::messages::{Bitmap, Confirmation, Survivors};
use veilsum_crypto::params::RoundParams;
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Statement;
use veilsum_crypto::server::StatementKind;
use veilsum_crypto::testing::{Play, TASK, World, now, os_rng};

/// What a server shows of a survivor list that it likes.
#[derive(Clone, Debug)]
pub struct Certified {
    /// The list, signed.
    pub survivors: Vec<u8>,
    /// Uploads of the victim's neighbours.
    pub uploads: Vec<Vec<u8>>,
    /// Confirmations of it.
    pub confirmations: Vec<Vec<u8>>,
}

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

    /// All have dealt.
    pub fn dealt(mut self) -> Self {
        for client in self.clients() {
            let Resumed::AwaitingRoster(phase, _) = self.resume(client) else { panic!("it advertised") };
            let roster = self.play.aggregator.served(&self.play.world, StatementKind::Roster);
            let evidence = phase.examine(&roster, now(), &mut os_rng()).expect("an honest roster");
            let (phase, _) = self.play.world.turn(phase.pin(&evidence));
            let leaves = self.play.aggregator.leaves(evidence.wanted().clone());
            let turn = phase.share(evidence, &leaves, &mut os_rng()).expect("honest leaves");
            let (disk, sent) = self.play.world.written(turn);
            self.take(client, disk, &sent);
        }
        self.close();
        self
    }

    /// All have acknowledged; the core is fixed.
    pub fn acknowledged(mut self) -> Self {
        for client in self.clients() {
            let Resumed::AwaitingMail(phase, _) = self.resume(client) else { panic!("it dealt") };
            let turn = phase.acknowledge(&self.play.aggregator.mail[&client]).expect("honest mail");
            let (disk, sent) = self.play.world.written(turn);
            self.take(client, disk, &sent);
        }
        self.close();
        self
    }

    /// All have uploaded; the survivors are fixed.
    pub fn uploaded(mut self) -> Self {
        let core = self.play.aggregator.served(&self.play.world, StatementKind::Core);
        let coordinates = self.play.world.facts.header.params.vector_len as usize;
        for (at, client) in self.clients().into_iter().enumerate() {
            let Resumed::ReadyToMask(phase, _) = self.resume(client) else { panic!("it acknowledged") };
            let update = self.play.world.update(1.0, at % coordinates, phase.share_variance());
            self.play.noised.insert(client, update.values().to_vec());
            let (disk, sent) = self.play.world.written(phase.mask(&core, update).expect("an honest core"));
            self.take(client, disk, &sent);
        }
        self.close();
        self
    }

    /// A survivor list without these clients, the uploads that a victim is shown with it, and what every other member of the
    /// agreement set that is listed signs for it: an adversary that holds the keys of all but one.
    pub fn certified(&self, victim: ClientId, without: &[ClientId]) -> Certified {
        let world = &self.play.world;
        let assembly = self.play.aggregator.phase.assembly().expect("a roster");
        let leaf = |client: ClientId| assembly.roster().leaf_of(client).expect("on the roster");
        let listed: Vec<ClientId> = self.clients().into_iter().filter(|client| !without.contains(client)).collect();
        let members = Bitmap::of(assembly.params().n, listed.iter().map(|client| leaf(*client)));
        let list = Survivors::fix(members, Digest([7; 32]), &world.facts.chain, self.core_root());
        let signers = world.members.iter().filter(|member| {
            let client = member.client();
            client != victim && listed.contains(&client) && assembly.order().agrees(leaf(client))
        });
        let sign = |member: &Arc<Membership>| {
            Confirmation::sign(&world.facts.chain, list.root(), member.client(), &member.identity).encode()
        };
        Certified {
            survivors: world.signed(list.statement().clone()),
            uploads: self.play.aggregator.uploads_for(victim),
            confirmations: signers.map(sign).collect(),
        }
    }

    fn core_root(&self) -> Digest {
        let (bytes, _) = &self.play.aggregator.statements[&StatementKind::Core];
        Statement::decode(bytes, labels::CORE).expect("as fixed").root()
    }

    /// A client's neighbours, in its order.
    pub fn neighbours(&self, of: ClientId) -> Vec<ClientId> {
        let assembly = self.play.aggregator.phase.assembly().expect("a roster");
        let leaf = assembly.roster().leaf_of(of).expect("on the roster");
        assembly.order().neighbours(leaf).into_iter().map(|leaf| assembly.roster().client(leaf)).collect()
    }

    /// A client as a restart finds it.
    pub fn resume(&self, client: ClientId) -> Resumed {
        self.open(client, &self.disks[&client])
    }

    /// What it has on disk.
    pub fn disk(&self, client: ClientId) -> Vec<u8> {
        self.disks[&client].clone()
    }

    /// A client from what it wrote down.
    pub fn open(&self, client: ClientId, disk: &[u8]) -> Resumed {
        let members = &self.play.world.members;
        let member = members.iter().find(|member| member.client() == client).expect("a client of this world");
        Resumed::open(&self.play.world.saving, disk, member).expect("as it was written")
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
