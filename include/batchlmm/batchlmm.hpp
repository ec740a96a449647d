/// @file
/// The public C++ API in one include.
///
/// A table and a formula make model matrices; they are fitted one by one (`fit`), tested (`likelihood_ratio_test`, with
/// its parametric bootstrap), or put into a `Batch` by the thousand:
/// @code
///   using namespace batchlmm;
///   const Table table = read_table("politeness.csv");
///   auto design = std::make_shared<const ModelMatrices>(
///       model_matrices(parse_formula("frequency ~ attitude + (1|subject) + (1|scenario)"), table));
///   Batch batch(design, Method::ml);
///   for (const Eigen::VectorXd& y : responses) batch.add(y);
///   auto pending = batch.submit();
///   for (const BatchFit& fit : pending.get()) use(fit.criterion, fit.theta, fit.beta);
/// @endcode
/// Items of a batch may bring designs of their own, of any shape: written out, or as a `DesignVariant` of one that the
/// batch has.
#pragma once

#include "batchlmm/error.hpp"
#include "batchlmm/version.hpp"
#include "host/batch/batch.hpp"
#include "host/data/read.hpp"
#include "host/formula/formula.hpp"
#include "host/inference/fit.hpp"
#include "host/inference/lrt.hpp"
#include "host/model/model_matrices.hpp"
