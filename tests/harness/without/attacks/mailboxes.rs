//! Attacks on who masks with whom.
//!
//! The adversary is the aggregator. Twelve clients: k = 8, t = 5, c = 1, T = 3.

use veilsum_crypto::ids::{Digest, LeafIndex};
use veilsum_crypto::messages::{Acknowledgement, Bitmap, CoreSet, EdgeReport};
use veilsum_crypto::primitives::context::CoreContext;
use veilsum_crypto::testing::{Play, lose, small_params};

use crate::without::checks::{Checks, CoreFacts, Decided, PairEnds, decide, stop};
use crate::without::gullible::Client;
use crate::without::stage::Stage;
use crate::without::{Played, WithoutRule, real};

/// All of this file.
pub fn all() -> Vec<WithoutRule> {
    vec![empty_mailbox(), split_mailboxes(), silent_acknowledgers(), two_views(), chosen_set(), lonely_core()]
}

const TARGET: LeafIndex = LeafIndex(0);

/// The aggregator shows one client an empty mailbox. Where the core is not one signed bitmap but, as in the protocols before
/// this one, whoever's mail a client received, the target masks with nobody: its input lies under b alone. All others
/// see nothing unusual and give their shares of b for a survivor.
fn empty_mailbox() -> WithoutRule {
    WithoutRule {
        with: "the target masks with every neighbour in the signed core, mail or no mail",
        without: "each client takes its own mailbox for the core: the target's input is opened exactly",
        patch: |checks| checks.r17 = core_from_mailbox,
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let clients = play.advertise();
            let mut clients = play.share(clients);
            let (target, phase) = clients.pop_first().expect("twelve");
            let (ready, body) = play.world.turn(phase.acknowledge(&[])?);
            let reports = Acknowledgement::decode(&body, 8).expect("as sent").reports().to_vec();
            assert_eq!(reports, [EdgeReport::Missing; 8], "it says what it sees");
            // The core that would leave the target alone: everybody but its neighbours.
            let near = real::neighbours(&play, target);
            let core = real::core_of(&play, real::all_but(&play, &near));
            real::mask(&play, ready, &core)?;
            Ok("the target masked".into())
        },
        model: |checks| {
            let mut stage = dealt(checks)?;
            for holder in stage.all() {
                let mail = if holder == TARGET { Vec::new() } else { stage.mail_without(holder, &[]) };
                stage.acknowledge_one(holder, &mail)?;
            }
            // A lying aggregator lists the target all the same.
            stage.mask(stage.all_but(&[]), &stage.all())?;
            open_target(&mut stage, &[], 17)
        },
        ..WithoutRule::new(17, "the empty mailbox")
    }
}

/// The aggregator splits the mailboxes: three ring neighbours see mail of each other only, all others see everything. Where a mailbox is the core, the masks of the three cancel among themselves, and under one survivor root that all accept
/// the sum of just these three is opened.
fn split_mailboxes() -> WithoutRule {
    WithoutRule {
        with: "all mask under one bitmap: the vectors of three clients are noise without the nine others",
        without: "each client takes its own mailbox for the core: the exact sum of three clients is opened",
        patch: |checks| checks.r17 = core_from_mailbox,
        real: || {
            // Two cores, one for the three and one for the others: what the three upload is refused as out of chain, and
            // the three stop before, because their t neighbours are not in it.
            let mut play = Play::new(small_params(12, 8));
            let mut clients = real::acknowledged(&mut play);
            let (target, phase) = clients.pop_first().expect("twelve");
            let near = real::neighbours(&play, target);
            let three = [target, near[3], near[4]];
            let core = real::core_of(&play, real::only(&play, &three));
            real::mask(&play, phase, &core)?;
            Ok("one of the three masked".into())
        },
        model: |checks| {
            let mut stage = dealt(checks)?;
            let three = three_in_a_row(&stage);
            let others: Vec<_> = stage.all().into_iter().filter(|leaf| !three.contains(leaf)).collect();
            for holder in stage.all() {
                let hidden: &[_] = if three.contains(&holder) { &others } else { &[] };
                let mail = stage.mail_without(holder, hidden);
                stage.acknowledge_one(holder, &mail)?;
            }
            stage.mask(stage.all_but(&[]), &stage.all())?;
            sum_of_three(&mut stage, &three, 17)
        },
        ..WithoutRule::new(17, "the split mailboxes")
    }
}

/// One corrupt holder deals and then says nothing. Where an edge counts only once its holder has acknowledged it, the silence
/// of one takes all its k neighbours out of the core, and the round ends before it began. Silence must remove only the silent.
fn silent_acknowledgers() -> WithoutRule {
    WithoutRule {
        with: "only the silent one is outside; the others make the core",
        without: "every dealer that it did not acknowledge is outside: the round is abandoned",
        patch: |checks| checks.r17_core = core_of_acknowledged_edges,
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let clients = play.advertise();
            let mut clients = play.share(clients);
            let silent = lose(&mut clients, 1);
            let clients = play.acknowledge(clients);
            assert_eq!(real::core_in_force(&play).members(), &real::all_but(&play, &silent));
            real::finish(&mut play, clients);
            stop(17, "the silent one alone is outside, and the sum is exact")
        },
        model: |checks| {
            let mut stage = dealt(checks)?;
            for holder in stage.all().into_iter().filter(|leaf| *leaf != TARGET) {
                let mail = stage.mail_without(holder, &[]);
                stage.acknowledge_one(holder, &mail)?;
            }
            let core = stage.fix_core();
            if core.count() >= stage.params().survivors_min {
                return stop(17, format!("{} of 12 are in the core, the silent one is not", core.count()));
            }
            Ok(format!("one silent client leaves a core of {}: the round is abandoned", core.count()))
        },
        ..WithoutRule::new(17, "the silent acknowledgers")
    }
}

/// The split mailboxes again, where nobody looks at who is in the core nor at the uploads of neighbours. Three
/// ring neighbours mask under a core of their own. If pair keys hash the core root, their masks towards the others are other
/// masks and never cancel; if they do not, the exact sum of the three falls out.
fn two_views() -> WithoutRule {
    WithoutRule {
        with: "the masks of two views differ: what the server computes is noise",
        without: "masks of the three cancel whatever core they were shown: the exact sum of three clients",
        behind: &[17, 22],
        base: |checks| {
            checks.r17 = own_core_under_anothers_root;
            checks.r22 = |_, _, _, _| Ok(());
        },
        patch: |checks| checks.r10 = pair_key_without_core,
        real: || {
            // The target is real and all others are accomplices, who hold every secret of the pair: under the root of
            // another core they derive other masks.
            let laid = real::lay_open(Play::new(small_params(12, 8)))?;
            assert!(laid.strip(&laid.masked_with(), laid.core.root()) == laid.input, "under its own core it opens");
            if laid.strip(&laid.masked_with(), Digest([4; 32])) == laid.input {
                return Ok("masks of another core open the input".into());
            }
            stop(10, "masks derived under another core do not cancel")
        },
        model: |checks| {
            let mut stage = dealt(checks)?;
            let three = three_in_a_row(&stage);
            let others: Vec<_> = stage.all().into_iter().filter(|leaf| !three.contains(leaf)).collect();
            stage.acknowledge()?;
            let members = stage.all_but(&[]);
            // Two of the three see one core, the third another, larger by one that is not its neighbour.
            let near = stage.view().order.neighbours(three[2]);
            let far = *others.iter().find(|leaf| !near.contains(leaf)).expect("k < n - 1");
            let one = stage.core_of(Bitmap::of(12, three));
            let other = stage.core_of(Bitmap::of(12, [three[0], three[1], three[2], far]));
            stage.mask_one(three[0], &one, &[])?;
            stage.mask_one(three[1], &one, &[])?;
            stage.mask_one(three[2], &other, &[])?;
            stage.mask(members, &others)?;
            sum_of_three(&mut stage, &three, 10)
        },
        ..WithoutRule::new(10, "the two views")
    }
}

/// The server says whom to mask with: "your neighbours have left". Where the set is passed in and not computed from ring and
/// core, the target masks with nobody, and its input lies under b alone.
fn chosen_set() -> WithoutRule {
    WithoutRule {
        with: "the set is computed from ring and core; what the server says is not looked at",
        without: "the target masks with whom the server says, nobody: its input is opened exactly",
        patch: |checks| checks.r18 = |_, core, said| said.iter().copied().filter(|leaf| core.has(*leaf)).collect(),
        real: || {
            // Nothing that `mask` takes says whom to mask with but the core. The target is real, all others are accomplices
            // who know its b: its vector bears the masks of all its k neighbours nevertheless.
            let laid = real::lay_open(Play::new(small_params(12, 8)))?;
            let near = laid.masked_with();
            assert!(laid.strip(&near, laid.core.root()) == laid.input, "with all k masks taken away it opens");
            if (0..near.len()).any(|few| laid.strip(&near[..few], laid.core.root()) == laid.input) {
                return Ok("a mask was left out".into());
            }
            stop(18, "the vector bears the masks of all neighbours in the core")
        },
        model: |checks| {
            let mut stage = dealt(checks)?;
            stage.acknowledge()?;
            let (members, all) = (stage.fix_core(), stage.all());
            let core = stage.core_of(members.clone());
            stage.mask_one(TARGET, &core, &[])?;
            stage.mask(members, &all[1..])?;
            open_target(&mut stage, &[], 18)
        },
        ..WithoutRule::new(18, "the chosen set")
    }
}

/// The target alone is shown a core without its neighbours, and masks with nobody (R-17 would have stopped it). Its neighbours
/// hold the second line: before they give a share of b for it they want its upload under their own core.
fn lonely_core() -> WithoutRule {
    WithoutRule {
        with: "its neighbours see an upload under another core, and give nothing",
        without: "they give their shares of b for it: its input is opened exactly",
        behind: &[17],
        base: |checks| checks.r17 = |_, core| Ok((core.members().clone(), core.root())),
        patch: |checks| checks.r22 = |_, _, _, _| Ok(()),
        real: || {
            let mut play = Play::new(small_params(12, 8));
            let mut clients = real::acknowledged(&mut play);
            let (target, phase) = clients.pop_first().expect("twelve");
            let far = *real::strangers(&play, target).first().expect("k < n - 1");
            let other = real::core_of(&play, real::all_but(&play, &[far]));
            let (_, body) = real::mask(&play, phase, &other)?; // as good as any
            let mut clients = play.mask(clients);
            let near = real::neighbours(&play, target)[0];
            let mut statements = play.aggregator.uploads_for(near);
            statements.push(crate::without::stage::statement_of(&body));
            let list = real::list_of(&play, real::all_but(&play, &[]));
            let _ = clients.remove(&near).expect("it uploaded").confirm(&list, &statements)?;
            Ok("a neighbour confirmed".into())
        },
        model: |checks| {
            let mut stage = dealt(checks)?;
            stage.acknowledge()?;
            let near = stage.clients[TARGET.index()].view().neighbours.clone();
            let lonely = stage.core_of(stage.all_but(&near));
            stage.mask_one(TARGET, &lonely, &[])?;
            let all = stage.all();
            stage.mask(stage.all_but(&[]), &all[1..])?;
            open_target_under(&mut stage, &[], lonely.root(), 22)
        },
        ..WithoutRule::new(22, "the lonely core")
    }
}

/// A patched copy of R-17: of its neighbours those are in the core whose mail it holds, under the root that the server named.
fn core_from_mailbox(client: &Client, core: &CoreSet) -> Decided<(Bitmap, Digest)> {
    let view = client.view();
    let missing = |leaf: &LeafIndex| view.neighbours.contains(leaf) && !client.mailbox.contains(leaf);
    let members = (0..view.params.n).map(LeafIndex).filter(|leaf| !missing(leaf));
    Ok((Bitmap::of(view.params.n, members), core.root()))
}

/// A patched copy of R-17 that looks at nothing.
fn own_core_under_anothers_root(_: &Client, core: &CoreSet) -> Decided<(Bitmap, Digest)> {
    Ok((core.members().clone(), core.root()))
}

/// A patched copy of R-17 at the aggregator: a dealer is in the core if all its edges were acknowledged.
fn core_of_acknowledged_edges(facts: &CoreFacts<'_>) -> Bitmap {
    let acknowledged_by = |dealer: LeafIndex, holder: LeafIndex| {
        let place = (facts.neighbours)(holder).iter().position(|leaf| *leaf == dealer).expect("mutual");
        facts.reports.get(&holder).is_some_and(|reports| reports[place] == EdgeReport::Good)
    };
    let whole =
        |dealer: &LeafIndex| (facts.neighbours)(*dealer).into_iter().all(|holder| acknowledged_by(*dealer, holder));
    Bitmap::of(facts.params.n, facts.dealt.leaves().filter(whole).collect::<Vec<_>>())
}

/// A patched copy of R-10: everything but the core root.
fn pair_key_without_core(ends: &PairEnds) -> veilsum_crypto::primitives::prg::MaskKey {
    let context = CoreContext { core: Digest::NONE, ..ends.context };
    decide::r10(&PairEnds { secret: ends.secret, me: ends.me, peer: ends.peer, context })
}

/// Twelve clients that have dealt.
pub fn dealt(checks: Checks) -> Decided<Stage> {
    let mut stage = Stage::new(small_params(12, 8), checks);
    stage.advertise()?;
    stage.examine()?;
    stage.deal()?;
    Ok(stage)
}

/// Ring positions 0, 1 and 2.
fn three_in_a_row(stage: &Stage) -> [LeafIndex; 3] {
    stage.view().order.agreement_set()[..3].try_into().expect("k is 8")
}

/// Everybody but the target confirms the list of all, and answers; then the target's input is computed from its b, and the
/// masks with these neighbours from its s, as far as it is known.
fn open_target(stage: &mut Stage, masked_with: &[LeafIndex], rule: u8) -> Played {
    let core = stage.core.as_ref().expect("it is fixed").root();
    open_target_under(stage, masked_with, core, rule)
}

fn open_target_under(stage: &mut Stage, masked_with: &[LeafIndex], core: Digest, rule: u8) -> Played {
    let list = stage.list_of(stage.all_but(&[]));
    let others: Vec<_> = stage.all().into_iter().filter(|leaf| *leaf != TARGET).collect();
    let answers = stage.answers(&list, &others)?;
    let (secrets, _) = stage.rebuild(&list, &answers);
    let Some(b) = secrets.get(&TARGET) else { return stop(rule, "b of the target was not given") };
    let recovered = stage.open_input(TARGET, *b, curve25519_dalek::Scalar::ZERO, masked_with, core);
    stage.is_the_input(TARGET, &recovered, rule)
}

/// All confirm the list of all and answer; the server adds the vectors of these three and takes away their self masks.
fn sum_of_three(stage: &mut Stage, three: &[LeafIndex; 3], rule: u8) -> Played {
    let list = stage.list_of(stage.all_but(&[]));
    let others: Vec<_> = stage.all().into_iter().filter(|leaf| !three.contains(leaf)).collect();
    let answers = stage.answers(&list, &others)?;
    let (secrets, _) = stage.rebuild(&list, &answers);
    let mut sum = stage.plain_sum([]);
    for leaf in three {
        let Some(b) = secrets.get(leaf) else { return stop(rule, "a secret of the three was not given") };
        let own_core = stage.clients[leaf.index()].core.as_ref().expect("it uploaded").1;
        let alone = stage.open_input(*leaf, *b, curve25519_dalek::Scalar::ZERO, &[], own_core);
        sum.add_assign(&alone).expect("one ring");
    }
    if sum != stage.plain_sum(*three) {
        return stop(rule, "the masks towards the others do not cancel: what the server computes is noise");
    }
    Ok("the exact sum of three clients, where at least nine were promised".into())
}
