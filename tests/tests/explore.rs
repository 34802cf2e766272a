//! The round machine with a lying aggregator, explored in full, and what the exploration rests on: that the model decides as the
//! real clients do. Claim C-260.

use std::collections::BTreeMap;
use std::sync::Arc;

use veilsum_crypto::client::{Membership, ReadyToMask, Resumed};
use veilsum_crypto::ids::{ClientId, Digest, LeafIndex};
use veilsum_crypto::messages::{Bitmap, Confirmation, CoreSet, Survivors};
use veilsum_crypto::primitives::labels;
use veilsum_crypto::primitives::signature::Statement;
use veilsum_crypto::server::{Assembly, PhaseKind, StatementKind};
use veilsum_crypto::testing::{Play, World, lose};
use verification::model::attacks::{explore, without};
use verification::model::decide::Judge;
use verification::model::{
    BOTH_SECRETS, Check, OPENED, Phase, RELEASED, RELEASED_WITH_LOSS, Round, SMALL_SUM, Set, Setting, TWO_LISTS,
    TWO_LISTS_ACCEPTED, TWO_ROSTERS, TWO_STATEMENTS, Table, Without, count, leaves, only,
};

/// Every state that four clients with t = 3, one or two of them corrupt, and five can reach: what must always hold does, and the
/// lies are really there.
#[test]
fn whatever_a_lying_aggregator_shows_to_whom_what_must_hold_does() {
    for setting in Setting::ALL {
        let explored = explore(&Round::new(setting, Without::default()), 2);
        println!("{}: {} states, {} steps at most", setting.name(), explored.unique, explored.depth);
        let lies = [TWO_ROSTERS, TWO_LISTS_ACCEPTED];
        for must in [BOTH_SECRETS, TWO_LISTS, SMALL_SUM, TWO_STATEMENTS, RELEASED].iter().chain(&lies) {
            assert!(explored.holds(must), "{}: {must}", setting.name());
        }
        let table = setting.table(Without::default());
        // Without a corrupt dealer's mail there is nobody to complain about, and so nothing to open.
        assert_eq!(explored.holds(OPENED), table.from == Phase::Enrolled, "{}: {OPENED}", setting.name());
        let tolerates = table.tolerated > 0;
        assert_eq!(explored.holds(RELEASED_WITH_LOSS), tolerates, "{}: {RELEASED_WITH_LOSS}", setting.name());
    }
}

/// The exploration can fail: without these checks it finds a way.
#[test]
fn where_a_check_is_taken_out_the_exploration_finds_what_it_is_for() {
    for check in [Check::Confirmations, Check::OneKind, Check::OneList, Check::SignedUploads] {
        let broken = without(&[check]).unwrap_or_else(|| panic!("without {check:?} something breaks"));
        println!("{check:?}: {}, {} steps, {}", broken.setting.name(), broken.steps.len(), broken.property);
        assert!(!broken.steps.is_empty());
    }
}

// ---- the model's decisions and the real ones -----------------------------------------------------

/// A round of a setting in which nobody lies, up to where one client waits for a core, as it is on disk; the others wait too.
struct Stage {
    play: Play,
    table: Table,
    target: ClientId,
    disk: Vec<u8>,
    others: BTreeMap<ClientId, ReadyToMask>,
}

impl Stage {
    /// So many of the others say nothing after their shares, and are not in the core.
    fn of(setting: Setting, lost: usize) -> Self {
        let mut play = Play::of(World::new(setting.params()));
        let clients = play.advertise();
        let mut clients = play.share(clients);
        let (target, phase) = clients.pop_first().expect("four or five");
        let mail = play.aggregator.mail[&target].clone();
        let (disk, message) = play.world.written(phase.acknowledge(&mail).expect("honest mail"));
        play.put(target, &message);
        lose(&mut clients, lost);
        let others = play.acknowledge(clients);
        Self { play, table: setting.table(Without::default()), target, disk, others }
    }

    fn assembly(&self) -> &Assembly {
        self.play.aggregator.phase.assembly().expect("there is a roster")
    }

    fn leaf(&self, client: ClientId) -> u8 {
        self.assembly().roster().leaf_of(client).expect("on the roster").0 as u8
    }

    fn client(&self, leaf: u8) -> ClientId {
        self.assembly().roster().client(LeafIndex(u32::from(leaf)))
    }

    fn bitmap(&self, set: Set) -> Bitmap {
        Bitmap::of(u32::from(self.table.n), leaves(set).map(|leaf| LeafIndex(u32::from(leaf))))
    }

    fn judge(&self) -> Judge<'_> {
        Judge { table: &self.table, without: Without::default(), me: self.leaf(self.target) }
    }

    fn member(&self, client: ClientId) -> &Arc<Membership> {
        self.play.world.members.iter().find(|member| member.client() == client).expect("a client of this world")
    }

    fn resumed(&self, disk: &[u8]) -> Resumed {
        Resumed::open(&self.play.world.saving, disk, self.member(self.target)).expect("as it was written")
    }

    /// What the real client says to a core that the aggregator signs.
    fn shown_core(&self, core: &[u8]) -> Result<Vec<u8>, u8> {
        let Resumed::ReadyToMask(phase, _) = self.resumed(&self.disk) else { panic!("it waits for a core") };
        let update = self.play.world.update(1.0, 0, phase.share_variance());
        let turn = phase.mask(core, update).map_err(|why| why.rule().0)?;
        Ok(self.play.world.written(turn).0)
    }
}

/// Every question that the model asks of one client, put to the real one as well.
fn compare(setting: Setting, lost: usize) {
    let mut stage = Stage::of(setting, lost);
    let everybody = stage.table.everybody();
    let chain = stage.play.world.facts.chain;
    let sets = || 0..=everybody;

    //
    for set in sets() {
        let core = CoreSet::fix(stage.bitmap(set), &chain, stage.assembly().root());
        let real = stage.shown_core(&stage.play.world.signed(core.statement().clone()));
        assert_eq!(real.map(drop), stage.judge().core_admits(set), "{setting:?}: the core {set:05b}");
    }

    //
    let core = stage.play.aggregator.served(&stage.play.world, StatementKind::Core);
    let disk = stage.shown_core(&core).expect("an honest core");
    let others = std::mem::take(&mut stage.others);
    let Resumed::AwaitingSurvivors(phase, input) = stage.resumed(&disk) else { panic!("it uploaded") };
    drop(phase);
    stage.play.put(stage.target, &input);
    stage.play.mask(others);
    let uploads = &stage.play.aggregator.received[&PhaseKind::Masking];
    let in_core = uploads.keys().fold(0, |set, client| set | only(stage.leaf(*client)));
    let (bytes, _) = &stage.play.aggregator.statements[&StatementKind::Core];
    let statement = Statement::decode(bytes, labels::CORE).expect("as fixed");
    let core_root = CoreSet::from_statement(statement, u32::from(stage.table.n)).expect("as fixed").root();
    let mut accepted = None;
    for (set, shown) in
        sets().flat_map(|set| sets().filter(|shown| shown & !in_core == 0).map(move |shown| (set, shown)))
    {
        let Resumed::AwaitingSurvivors(phase, _) = stage.resumed(&disk) else { panic!("it uploaded") };
        let survivors = Survivors::fix(stage.bitmap(set), Digest([7; 32]), &chain, core_root);
        let of = leaves(shown).map(|leaf| uploads[&stage.client(leaf)].clone()).collect::<Vec<_>>();
        let real = phase.confirm(&stage.play.world.signed(survivors.statement().clone()), &of);
        let decided = stage.judge().survivors_hold(in_core, set, shown);
        assert_eq!(
            real.as_ref().map(drop).map_err(|why| why.rule().0),
            decided,
            "{setting:?}, core {in_core:05b}: the list {set:05b} with uploads of {shown:05b}"
        );
        if let Ok(turn) = real {
            accepted = Some((set, survivors.root(), stage.play.world.written(turn).0));
        }
    }

    //
    let (list, root, disk) = accepted.expect("some list is good");
    let order = stage.assembly().order();
    let agreement = leaves(everybody)
        .filter(|leaf| order.agrees(LeafIndex(u32::from(*leaf))))
        .fold(0, |set, leaf| set | only(leaf));
    assert!(count(agreement) < stage.table.n || setting != Setting::Five, "somebody is outside");
    for signers in sets() {
        let Resumed::ReadyToUnmask(phase, _) = stage.resumed(&disk) else { panic!("it accepted a list") };
        let confirmation = |leaf: u8| {
            let client = stage.client(leaf);
            Confirmation::sign(&chain, root, client, &stage.member(client).identity).encode()
        };
        let real = phase.unmask(&leaves(signers).map(confirmation).collect::<Vec<_>>());
        let decided = stage.judge().agreed(list, agreement, signers);
        assert_eq!(real.map(drop).map_err(|why| why.rule().0), decided, "{setting:?}: confirmed by {signers:05b}");
    }
}

/// The model's client decides about cores, survivor lists and confirmations as the real one does: every set of leaves, with every
/// set of uploads and signatures. Complaints and openings are compared by their bounds only, with the header's parameters.
#[test]
fn the_model_decides_as_the_real_clients_do() {
    for (setting, lost) in [(Setting::Four, 0), (Setting::Five, 0), (Setting::Five, 1)] {
        compare(setting, lost);
    }
}
