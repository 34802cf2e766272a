//! One round in memory, the same each time, stopped before every close: what targets start from.
//!
//! Eight clients; one complains falsely about an edge, so that the open phase happens and later phases hold an opened share.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use veilsum_crypto::client::{AwaitingMail, HeaderEvidence, OpenError, Opened, Resumed, Turn};
use veilsum_crypto::ids::{ClientId, Digest};
use veilsum_crypto::messages::{Header, RevocationList, SealedShares};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::{IdentitySecretKey, Signed, Statement};
use veilsum_crypto::server::{Phase, PhaseKind, Received, RoundFacts, StatementKind};
use veilsum_crypto::testing::{Aggregator, TASK, World, now, small_params};

use super::forge::mended;
use crate::world::sha256;

/// What the header names by its hash.
pub const MODEL: &[u8] = b"a model";
/// Clients of the round.
pub const CLIENTS: usize = 8;
/// Complains, falsely.
pub const COMPLAINER: usize = 1;
/// Is complained about, and opens.
pub const ACCUSED: usize = 2;

/// The phases in which something is accepted, in order.
pub const OPEN_PHASES: [PhaseKind; 7] = [
    PhaseKind::Advertising,
    PhaseKind::Sharing,
    PhaseKind::Acknowledging,
    PhaseKind::Opening,
    PhaseKind::Masking,
    PhaseKind::Confirming,
    PhaseKind::Unmasking,
];

/// A client between two steps, as it was written down, and what it needs for the next.
#[derive(Clone, Debug)]
pub struct State {
    /// Whose.
    pub number: usize,
    /// The plaintext that `Turn::persist` sealed.
    pub plain: Vec<u8>,
    /// The bytes that an honest aggregator serves for the next step: one statement, or the list's items.
    pub served: Vec<Vec<u8>>,
}

/// The round.
pub struct Stage {
    /// Keys and header.
    pub world: World,
    /// Each phase before it closed, and how the round ended.
    pub phases: BTreeMap<PhaseKind, Phase>,
    /// Every honest message, whole.
    pub messages: BTreeMap<PhaseKind, BTreeMap<ClientId, Vec<u8>>>,
    /// What the store would hold at the end: messages by phase, uploads without their vectors.
    pub aggregator: Aggregator,
    /// Every client between every two steps.
    pub states: Vec<State>,
    /// Roots and hashes of this round: what a splicer would put where another stands.
    pub digests: Vec<Digest>,
}

/// The round, played once a process.
pub static STAGE: LazyLock<Stage> = LazyLock::new(Stage::play);

impl Stage {
    fn play() -> Self {
        let params = small_params(CLIENTS as u32, 20);
        let mut world = World::seeded(params, 1);
        let header = Header { model_hash: sha256(MODEL), ..world.facts.header.clone() };
        world.facts = RoundFacts::new(header, RevocationList::none());
        let mut stage = Self {
            aggregator: Aggregator::new(&world.facts.header.params),
            world,
            phases: BTreeMap::new(),
            messages: BTreeMap::new(),
            states: Vec::new(),
            digests: Vec::new(),
        };
        let header = stage.world.header();
        for number in 0..CLIENTS {
            let enrolled = stage.world.enrolled(number);
            let turn = enrolled.advertise(TASK, &header, &HeaderEvidence::default(), now(), &mut stage.world.rng());
            stage.written(number, turn.expect("an honest header"), PhaseKind::Advertising);
        }
        stage.close();
        stage.share();
        stage.acknowledge();
        stage.open();
        stage.mask();
        stage.confirm();
        stage.unmask();
        stage.phases.insert(stage.aggregator.phase.kind(), stage.aggregator.phase.clone());
        assert_eq!(stage.aggregator.phase.kind(), PhaseKind::Published, "an honest round is published");
        let result = stage.aggregator.served(&stage.world, StatementKind::Result);
        for state in &mut stage.states {
            if state.plain[1] == 6 {
                state.served = vec![result.clone()];
            }
        }
        stage.digests = stage.chain_digests();
        stage
    }

    fn share(&mut self) {
        let roster = self.aggregator.served(&self.world, StatementKind::Roster);
        for (number, resumed) in self.resumed(1) {
            let Resumed::AwaitingRoster(phase, _) = resumed else { unreachable!("tag 1") };
            let evidence = phase.examine(&roster, now(), &mut self.world.rng()).expect("an honest roster");
            let leaves = self.aggregator.leaves(evidence.wanted().clone());
            self.serve(number, 1, std::iter::once(roster.clone()).chain(leaves.values().cloned()).collect());
            let (phase, _) = self.world.turn(phase.pin(&evidence));
            let turn = phase.share(evidence, &leaves, &mut self.world.rng()).expect("honest leaves");
            self.written(number, turn, PhaseKind::Sharing);
        }
        self.close();
    }

    fn acknowledge(&mut self) {
        for (number, resumed) in self.resumed(2) {
            let Resumed::AwaitingMail(phase, _) = resumed else { unreachable!("tag 2") };
            let mail = self.aggregator.mail[&self.client(number)].clone();
            self.serve(number, 2, mail.clone());
            if number == COMPLAINER {
                self.complain(phase, &mail);
            } else {
                let turn = phase.acknowledge(&mail).expect("honest mail");
                self.written(number, turn, PhaseKind::Acknowledging);
            }
        }
        self.close();
        assert_eq!(self.aggregator.phase.kind(), PhaseKind::Opening, "one complained");
    }

    /// Says of a good edge that it is bad. Beside that goes a state in which the complaint was in earnest.
    fn complain(&mut self, phase: AwaitingMail, mail: &[Vec<u8>]) {
        let (accused, complainer) = (self.client(ACCUSED), self.client(COMPLAINER));
        let assembly = self.aggregator.phase.assembly().expect("a roster").clone();
        let (dealer, _) = assembly.find(accused).expect("on it");
        let (holder, _) = assembly.find(complainer).expect("on it");
        let degree = assembly.params().degree;
        let dealt = &self.messages[&PhaseKind::Sharing][&accused];
        let edge = SealedShares::decode(dealt, degree).expect("honest").edge_to(holder).expect("neighbours").hash();

        let mut broken = dealt.clone();
        broken[214..].iter_mut().skip(4).step_by(148).for_each(|first_of_ciphertext| *first_of_ciphertext ^= 1);
        let broken = SealedShares::decode(&mended(&broken, labels::SHARE, self.key(ACCUSED)), degree).expect("in form");
        let items = broken.mail(dealer).into_iter().filter(|(to, _)| *to == holder).map(|(_, item)| item);
        let honest = mail.iter().filter(|item| item[..4] != dealer.0.to_le_bytes()).cloned();
        let bad_mail: Vec<Vec<u8>> = honest.chain(items).collect();
        let Ok(Resumed::AwaitingMail(again, _)) = self.resume(COMPLAINER, &self.newest(COMPLAINER).plain) else {
            unreachable!("written down at the last step")
        };
        let (disk, _) = self.world.written(again.acknowledge(&bad_mail).expect("one bad edge is allowed"));
        let earnest = self.world.saving.open(&disk).expect("sealed here").to_vec();

        let (disk, sent) = self.world.written(phase.acknowledge(mail).expect("honest mail"));
        let plain = self.world.saving.open(&disk).expect("sealed here").to_vec();
        let mut statement = Signed::decode(&sent, labels::ACKNOWLEDGEMENT).expect("its own").statement().clone();
        let place = assembly.order().neighbours(holder).iter().position(|leaf| *leaf == dealer).expect("neighbours");
        statement.body[place] = 2; // all before it are good: one byte each
        statement.body.splice(place + 1..place + 1, edge.0);
        let sent = statement.sign(self.key(COMPLAINER)).encode();
        self.states.push(State { number: COMPLAINER, plain: earnest, served: Vec::new() });
        self.states.push(State { number: COMPLAINER, plain, served: Vec::new() });
        self.deliver(COMPLAINER, sent, PhaseKind::Acknowledging);
    }

    fn open(&mut self) {
        let complaint = self.aggregator.received[&PhaseKind::Acknowledging][&self.client(COMPLAINER)].clone();
        for (number, resumed) in self.resumed(3) {
            let Resumed::ReadyToMask(phase, _) = resumed else { unreachable!("tag 3") };
            let complaints = if number == ACCUSED { vec![complaint.clone()] } else { Vec::new() };
            self.serve(number, 3, complaints.clone());
            match phase.open(&complaints).expect("few complaints") {
                Opened::Nothing(_) => {}
                Opened::Opening(turn) => self.written(number, turn, PhaseKind::Opening),
            }
        }
        self.close();
    }

    fn mask(&mut self) {
        let core = self.aggregator.served(&self.world, StatementKind::Core);
        let opening = self.aggregator.bodies(PhaseKind::Opening);
        for (number, resumed) in self.resumed(3) {
            let Resumed::ReadyToMask(phase, _) = resumed else { unreachable!("tag 3") };
            let (mut phase, _) = self.world.turn(phase.pin(&core).expect("an honest core"));
            phase.take_openings(&opening);
            self.serve(number, 3, std::iter::once(core.clone()).chain(opening.clone()).collect());
            let update = self.world.update(1.0, number, phase.share_variance());
            let turn = phase.mask(&core, update).expect("an honest core");
            self.written(number, turn, PhaseKind::Masking);
        }
        self.close();
    }

    fn confirm(&mut self) {
        let survivors = self.aggregator.served(&self.world, StatementKind::Survivors);
        for (number, resumed) in self.resumed(4) {
            let Resumed::AwaitingSurvivors(phase, _) = resumed else { unreachable!("tag 4") };
            let uploads = self.aggregator.uploads_for(self.client(number));
            self.serve(number, 4, std::iter::once(survivors.clone()).chain(uploads.clone()).collect());
            let turn = phase.confirm(&survivors, &uploads).expect("an honest list");
            self.written(number, turn, PhaseKind::Confirming);
        }
        self.close();
    }

    fn unmask(&mut self) {
        let confirmations = self.aggregator.bodies(PhaseKind::Confirming);
        for (number, resumed) in self.resumed(5) {
            let Resumed::ReadyToUnmask(phase, _) = resumed else { unreachable!("tag 5") };
            self.serve(number, 5, confirmations.clone());
            let turn = phase.unmask(&confirmations).expect("they agree");
            self.written(number, turn, PhaseKind::Unmasking);
        }
        self.close();
    }

    /// Keeps what a step wrote down, and delivers what it sent.
    fn written<T: Writes>(&mut self, number: usize, turn: T, phase: PhaseKind) {
        let (disk, sent) = turn.write(&self.world);
        let plain = self.world.saving.open(&disk).expect("sealed here").to_vec();
        self.states.push(State { number, plain, served: Vec::new() });
        self.deliver(number, sent, phase);
    }

    fn deliver(&mut self, number: usize, sent: Vec<u8>, phase: PhaseKind) {
        if sent.is_empty() {
            return; // not of the agreement set
        }
        let client = self.client(number);
        self.aggregator.put(&self.world, client, &sent).expect("an honest message");
        self.messages.entry(phase).or_default().insert(client, sent);
    }

    fn newest(&self, number: usize) -> &State {
        self.states.iter().rfind(|state| state.number == number).expect("it takes part")
    }

    fn serve(&mut self, number: usize, tag: u8, served: Vec<Vec<u8>>) {
        let state = self.states.iter_mut().rfind(|state| state.number == number && state.plain[1] == tag);
        state.expect("it came this far").served = served;
    }

    /// Everybody whose newest state has this tag.
    fn resumed(&self, tag: u8) -> Vec<(usize, Resumed)> {
        (0..CLIENTS)
            .map(|number| self.newest(number))
            .filter(|state| state.plain[1] == tag)
            .map(|state| (state.number, self.resume(state.number, &state.plain).expect("as written")))
            .collect()
    }

    /// Opens a saved state of a client, through its seal.
    pub fn resume(&self, number: usize, plain: &[u8]) -> Result<Resumed, OpenError> {
        let sealed = self.world.saving.seal(&mut self.world.rng(), plain);
        Resumed::open(&self.world.saving, &sealed, &self.world.members[number])
    }

    fn close(&mut self) {
        self.phases.insert(self.aggregator.phase.kind(), self.aggregator.phase.clone());
        self.aggregator.close(&self.world);
    }

    /// A client's id by number.
    pub fn client(&self, number: usize) -> ClientId {
        self.world.members[number].client()
    }

    /// Its signing key.
    pub fn key(&self, number: usize) -> &IdentitySecretKey {
        &self.world.members[number].identity
    }

    /// What the store holds when a phase closes.
    pub fn received(&self, phase: PhaseKind) -> Received {
        let bodies = |kind| self.aggregator.received.get(&kind).cloned().unwrap_or_default();
        Received {
            bodies: bodies(phase),
            adverts: bodies(PhaseKind::Advertising),
            shares: bodies(PhaseKind::Sharing),
            acknowledgements: bodies(PhaseKind::Acknowledging),
            sum: (phase == PhaseKind::Unmasking).then(|| self.aggregator.sum.clone()),
        }
    }

    fn chain_digests(&self) -> Vec<Digest> {
        let context = self.world.facts.chain.context;
        let assembly = self.aggregator.phase.assembly().expect("a roster");
        let roots = self.aggregator.statements.iter().map(|(kind, (bytes, _))| {
            let label =
                [labels::HEADER, labels::ROSTER, labels::CORE, labels::SURVIVORS, labels::RESULT][*kind as usize];
            Statement::decode(bytes, label).expect("as fixed").root()
        });
        [Digest::NONE, Digest([0xff; 32]), context, assembly.root()].into_iter().chain(roots).collect()
    }

    /// All honest messages of all phases: donors of parts.
    pub fn donors(&self) -> Vec<&[u8]> {
        self.messages.values().flat_map(|messages| messages.values().map(Vec::as_slice)).collect()
    }
}

/// `World::written`, by name: its bounds are private.
trait Writes {
    fn write(self, world: &World) -> (Vec<u8>, Vec<u8>);
}

macro_rules! writes {
    ($($next:ident, $sent:ty;)*) => { $(
        impl Writes for Turn<veilsum_crypto::client::$next, $sent> {
            fn write(self, world: &World) -> (Vec<u8>, Vec<u8>) {
                world.written(self)
            }
        }
    )* };
}
writes! {
    AwaitingRoster, veilsum_crypto::messages::KeyAdvertisement;
    AwaitingMail, SealedShares;
    ReadyToMask, veilsum_crypto::messages::Acknowledgement;
    ReadyToMask, veilsum_crypto::messages::Opening;
    AwaitingSurvivors, veilsum_crypto::messages::MaskedInput;
    ReadyToUnmask, Option<veilsum_crypto::messages::Confirmation>;
    AwaitingResult, veilsum_crypto::messages::Answer;
}
